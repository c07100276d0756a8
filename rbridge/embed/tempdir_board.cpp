#include "rbridge/embed/tempdir_board.hpp"

#include <sys/mman.h>

#include <cstddef>
#include <cstring>

namespace setsuna::embed {
namespace {

constexpr TempdirBoard::Note kNotes = 1024;
constexpr std::size_t kNoteBytes = 512;
constexpr std::size_t kBoardBytes = kNoteBytes * kNotes;

// A name is used for removing a tree: take nothing but what tempdir() makes.
bool is_session_directory(const std::string& path) {
  const auto slash = path.rfind('/');
  return path.front() == '/' && slash != std::string::npos && path.compare(slash, 5, "/Rtmp") == 0 &&
         path.size() == slash + 11;
}

}  // namespace

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
