#include "tracing.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "net/descriptors.hpp"
#include "runtime/clock.hpp"

namespace setsuna::host {

namespace {

constexpr std::uint64_t kWriteAfterNs = runtime::kNanosPerSecond;
constexpr std::uint64_t kWriteOnNs = 5 * runtime::kNanosPerMilli;  // while there is more, and all is quiet
constexpr std::uint64_t kWrittenAtOnce = 1024;                     // a millisecond or two
static_assert(dispatch::Trace::kChunk % kWrittenAtOnce == 0);
constexpr char kTrailer[] = "\n]\n";

int open_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) {
    throw std::runtime_error("'trace': the file '" + path + "' cannot be written: " + std::strerror(errno));
  }
  return net::move_high(fd);
}

}  // namespace

Tracing::Tracing(const std::string& path, const std::string& profile)
    : path_(path), trace_(&runtime::monotonic_ns), json_(profile, ::getpid()) {
  if (path.empty()) {
    return;
  }
  file_ = runtime::UniqueFd(open_file(path));
  trace_.set_sink(this);
  text_ = "[\n";
  json_.append_head(text_);
  put();
  if (!problem_.empty()) {
    throw std::runtime_error("'trace': the file '" + path + "' cannot be written: " + problem_);
  }
}

Tracing::~Tracing() { close(); }

void Tracing::open_area(const runtime::Segment& segment, runtime::SegmentArena& arena) {
  const std::uint32_t slots = segment.header().slot_count;
  const runtime::Block block = arena.alloc(runtime::TraceArea<std::atomic>::bytes(slots));
  if (!block) {
    throw std::runtime_error("'trace': its " +
                             std::to_string(runtime::TraceArea<std::atomic>::bytes(slots) / 1'000'000) +
                             " MB do not fit the memory that this profile can share with its daemons (" +
                             segment.size_reason() + "): raise that limit, or leave 'trace' out");
  }
  void* base = arena.at(block.offset);
  area_ = runtime::TraceArea<std::atomic>(base, slots);
  area_.clear(slots);
  const auto offset = static_cast<std::uint64_t>(static_cast<std::byte*>(base) - segment.base());
  // Relaxed: daemons are given the segment after this.
  segment.queue(nullptr).control->trace_offset.store(offset, std::memory_order_relaxed);
  open_ = true;
  open_count_.fetch_add(1, std::memory_order_relaxed);
}

std::uint64_t Tracing::due_ns() {
  if (!file_ || trace_.written() == trace_.end()) {
    return 0;
  }
  if (due_ns_ == 0) {
    due_ns_ = runtime::monotonic_ns() + kWriteAfterNs;
  }
  return due_ns_;
}

void Tracing::on_time(std::uint64_t now_ns) {
  if (due_ns_ == 0 || now_ns < due_ns_) {
    return;
  }
  write_some();
  const bool more = file_ && trace_.written() < trace_.end();
  const bool quiet = activity_ == trace_.activity();
  activity_ = trace_.activity();
  due_ns_ = more ? now_ns + (quiet ? kWriteOnNs : kWriteAfterNs) : 0;
}

void Tracing::write_all() {
  while (file_ && trace_.written() < trace_.end()) {
    write_some();
  }
  due_ns_ = 0;
}

std::string Tracing::complaint() const {
  return problem_.empty() ? "" : "'trace': the file '" + path_ + "' ends early, it could not be written: " + problem_;
}

void Tracing::close() {
  write_all();
  file_.reset();
  if (std::exchange(open_, false)) {
    open_count_.fetch_sub(1, std::memory_order_relaxed);
  }
}

void Tracing::on_pressing(dispatch::Trace&) {
  for (std::uint64_t n = 0; n < dispatch::Trace::kChunk && file_; n += kWrittenAtOnce) {
    write_some();
  }
}

void Tracing::write_some() {
  const std::uint64_t until = std::min(trace_.end(), trace_.written() + kWrittenAtOnce);
  text_.clear();
  for (std::uint64_t position = trace_.written(); position < until; ++position) {
    json_.append(text_, trace_[position], trace_.started_ns());
  }
  put();
  trace_.set_written(until);
}

// In one write, which begins where the closing bracket stands and ends with another: what a reader finds is an array.
void Tracing::put() {
  const std::size_t length = text_.size();
  text_ += kTrailer;
  std::size_t done = 0;
  while (done < text_.size()) {
    const ssize_t wrote =
        ::pwrite(file_.get(), text_.data() + done, text_.size() - done, static_cast<off_t>(end_ + done));
    if (wrote < 0 && errno == EINTR) {
      continue;
    }
    if (wrote <= 0) {
      give_up(wrote < 0 ? std::strerror(errno) : "the file takes no more");
      return;
    }
    done += static_cast<std::size_t>(wrote);
  }
  end_ += length;
}

// What was written before stays an array.
void Tracing::give_up(const char* why) {
  problem_ = why;
  if (::pwrite(file_.get(), kTrailer, std::strlen(kTrailer), static_cast<off_t>(end_)) > 0) {
    static_cast<void>(::ftruncate(file_.get(), static_cast<off_t>(end_ + std::strlen(kTrailer))) == 0);
  }
  file_.reset();
  trace_.set_sink(nullptr);
}

}  // namespace setsuna::host
