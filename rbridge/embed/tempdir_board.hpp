// Where daemons note the names of their session directories, so that the zygote can remove that of one which was killed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace setsuna::embed {

// Is this the name of a directory that R's tempdir() makes? A tree is removed by it: take nothing else.
bool is_session_directory(const std::string& path);

// Removes what can be removed of a directory and its content; never follows symbolic links.
void remove_tree(const char* path);

// Memory shared by the zygote and the daemons that it forks. Each daemon makes its directory itself, in parallel with the
// zygote's next fork, and writes the name once.
class TempdirBoard {
 public:
  using Note = std::int32_t;
  static constexpr Note kNone = -1;

  TempdirBoard();
  TempdirBoard(const TempdirBoard&) = delete;
  TempdirBoard& operator=(const TempdirBoard&) = delete;

  Note take();  // kNone if all are taken: such a directory stays behind after a kill
  // The daemon is gone: what it wrote, empty if nothing that looks like a session directory of R.
  std::string give_back(Note note);

  // In the daemon:
  void write(Note note, const char* path);
  void unmap();

 private:
  char* at(Note note) const;
  char* memory_ = nullptr;
  std::vector<Note> free_;
};

}  // namespace setsuna::embed
