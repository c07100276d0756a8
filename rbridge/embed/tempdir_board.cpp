#include "rbridge/embed/tempdir_board.hpp"

#include <ftw.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <cstring>

namespace setsuna::embed {
namespace {

constexpr TempdirBoard::Note kNotes = 1024;
constexpr std::size_t kNoteBytes = 512;
constexpr std::size_t kBoardBytes = kNoteBytes * kNotes;

int remove_entry(const char* path, const struct stat*, int, FTW*) { return std::remove(path), 0; }

}  // namespace

bool is_session_directory(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash != std::string::npos && path.front() == '/' && path.compare(slash, 5, "/Rtmp") == 0 &&
         path.size() == slash + 11;
}

void remove_tree(const char* path) {
  if (::rmdir(path) == 0) return;  // most are empty
  ::nftw(path, remove_entry, 32, FTW_DEPTH | FTW_PHYS);
}

TempdirBoard::TempdirBoard() {
  void* memory = ::mmap(nullptr, kBoardBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return;
  memory_ = static_cast<char*>(memory);
  for (Note note = kNotes; note-- > 0;) free_.push_back(note);
}

char* TempdirBoard::at(Note note) const { return memory_ + static_cast<std::size_t>(note) * kNoteBytes; }

TempdirBoard::Note TempdirBoard::take() {
  if (free_.empty()) return kNone;
  const Note note = free_.back();
  free_.pop_back();
  at(note)[0] = '\0';
  return note;
}

std::string TempdirBoard::give_back(Note note) {
  if (note == kNone) return {};
  // The writer is dead; its death, which we waited for, orders its stores before this.
  std::string path(at(note), ::strnlen(at(note), kNoteBytes));
  free_.push_back(note);
  return !path.empty() && path.size() < kNoteBytes && is_session_directory(path) ? path : std::string();
}

void TempdirBoard::write(Note note, const char* path) {
  if (note != kNone && std::strlen(path) < kNoteBytes) std::strcpy(at(note), path);
}

// A stray store in a task must not reach the notes of others.
void TempdirBoard::unmap() {
  if (memory_ != nullptr) ::munmap(memory_, kBoardBytes);
  memory_ = nullptr;
}

}  // namespace setsuna::embed
