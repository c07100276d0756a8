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

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

}  // namespace

Tracing::Tracing(const std::string& path, const std::string& profile)
    : path_(path), trace_(&runtime::monotonic_ns), json_(profile, ::getpid()), spilled_(folder_of(path)) {
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
  if (!unwritten()) {
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
  const bool more = unwritten();
  const bool quiet = activity_ == trace_.activity();
  activity_ = trace_.activity();
  due_ns_ = more ? now_ns + (quiet ? kWriteOnNs : kWriteAfterNs) : 0;
}

void Tracing::write_all() {
  while (unwritten()) {
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
  if (spill()) {
    return;
  }
  while (unwritten() && trace_.pressing()) {
    write_some();
  }
}

// The oldest records that are in the ring only, to the spill. False: it takes no more.
bool Tracing::spill() {
  const std::uint64_t from = trace_.written();
  const std::uint64_t until = std::min(trace_.end(), from + dispatch::Trace::kChunk);
  if (spilled_.size() == 0) {
    spilled_from_ = from;
  }
  if (!fetch(from, until - from) || !spilled_.append(fetched_.data(), (until - from) * sizeof(dispatch::TraceRecord))) {
    return false;
  }
  trace_.set_written(until);
  return true;
}

// To fetched_. False: they are nowhere.
bool Tracing::fetch(std::uint64_t position, std::size_t count) {
  fetched_.resize(count);
  if (position >= trace_.first()) {
    for (std::size_t n = 0; n < count; ++n) {
      fetched_[n] = trace_[position + n];
    }
    return true;
  }
  constexpr std::size_t kBytes = sizeof(dispatch::TraceRecord);
  return position >= spilled_from_ &&
         spilled_.read((position - spilled_from_) * kBytes, fetched_.data(), count * kBytes);
}

void Tracing::write_some() {
  // The spill ends before what is in the ring only: no stretch is of both.
  const std::uint64_t end = written_ < trace_.written() ? trace_.written() : trace_.end();
  const std::uint64_t until = std::min(end, written_ + kWrittenAtOnce);
  if (!fetch(written_, until - written_)) {
    give_up("records that were kept aside on its disk cannot be read");
    return;
  }
  text_.clear();
  for (const dispatch::TraceRecord& record : fetched_) {
    json_.append(text_, record, trace_.started_ns());
  }
  put();
  written_ = until;
  if (written_ >= trace_.written()) {
    spilled_.clear();
    trace_.set_written(written_);
  }
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
  spilled_.clear();
  trace_.set_sink(nullptr);
}

}  // namespace setsuna::host
