// daemons(trace = ): the trace of a profile, the area in its segment where daemons leave their stamps, and the file. Under the
// host's mutex. No R in here.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "dispatch/trace.hpp"
#include "dispatch/trace_json.hpp"
#include "runtime/segment.hpp"
#include "runtime/spill_file.hpp"
#include "runtime/trace_area.hpp"
#include "runtime/unique_fd.hpp"

namespace setsuna::host {

class Tracing final : private dispatch::TraceSink {
 public:
  // `path` empty: in memory only. Throws std::runtime_error with a message for users.
  Tracing(const std::string& path, const std::string& profile);
  ~Tracing();
  Tracing(const Tracing&) = delete;
  Tracing& operator=(const Tracing&) = delete;

  // Takes its part of a segment that no daemon has been given yet. Throws.
  void open_area(const runtime::Segment& segment, runtime::SegmentArena& arena);

  dispatch::Trace& trace() { return trace_; }
  const runtime::TraceArea<std::atomic>& area() const { return area_; }
  std::string complaint() const;  // of a file that could not be written to its end; else empty

  // Records are written a second after they came: all when tasks have ceased to come and go, else so few that it is not felt.
  // What a long flood's ring does not hold until then is kept aside as it is: formatting it would slow the flood.
  // When that is next; 0: nothing is to be written.
  std::uint64_t due_ns();
  void on_time(std::uint64_t now_ns);
  // All that there are. The file is complete, and valid JSON, after each write.
  void write_all();
  // After the last task: the same, and no more of it.
  void close();

  // Is any profile traced? Any thread.
  static bool any() { return open_count_.load(std::memory_order_relaxed) != 0; }

 private:
  void on_pressing(dispatch::Trace& trace) override;
  bool unwritten() const { return file_ && written_ < trace_.end(); }
  bool spill();
  void write_some();
  bool fetch(std::uint64_t position, std::size_t count);
  void put();
  void give_up(const char* why);

  static inline std::atomic<std::uint32_t> open_count_{0};

  std::string path_;
  std::string problem_;
  dispatch::Trace trace_;
  dispatch::TraceJson json_;
  runtime::TraceArea<std::atomic> area_;
  runtime::UniqueFd file_;
  std::uint64_t end_ = 0;      // of the file, without the closing bracket
  std::string text_;           // that is written next; kept, since fresh memory is slow
  std::uint64_t written_ = 0;  // so many records are in the file; Trace::written() counts those that were spilled, too
  runtime::SpillFile spilled_;
  std::uint64_t spilled_from_ = 0;              // position of the first one in there
  std::vector<dispatch::TraceRecord> fetched_;  // out of the ring or the spill
  std::uint64_t due_ns_ = 0;
  std::uint64_t activity_ = 0;  // Trace::activity() when last looked at
  bool open_ = false;
};

}  // namespace setsuna::host
