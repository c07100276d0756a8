// Typed pointers into the queue part of a mapped segment. Plain pointers and counts; owns nothing.
#pragma once

#include <cstdint>

#include "runtime/layout.hpp"

namespace setsuna::runtime {

template <template <class> class Atom>
struct QueueView {
  Control<Atom>* control = nullptr;
  DaemonRecord<Atom>* daemons = nullptr;  // record i is at stride kPageBytes
  Atom<std::uint64_t>* cells = nullptr;
  Atom<std::uint64_t>* done_bits = nullptr;
  TaskSlot<Atom>* slots = nullptr;
  HostPage<Atom>* host = nullptr;
  std::uint32_t slot_count = 0;  // power of two
  std::uint32_t daemon_max = 0;
  std::size_t daemon_stride = kPageBytes;

  DaemonRecord<Atom>& daemon(std::uint32_t index) const {
    return *reinterpret_cast<DaemonRecord<Atom>*>(reinterpret_cast<char*>(daemons) +
                                                  std::size_t{index} * daemon_stride);
  }
  std::uint32_t done_words() const { return (slot_count + 63) / 64; }
  std::uint32_t idle_words() const { return (daemon_max + 63) / 64; }
};

// View of a real mapping at `base` with its header already verified.
inline QueueView<std::atomic> make_queue_view(void* base, const SegmentHeader& header, HostPage<std::atomic>* host) {
  auto* bytes = static_cast<char*>(base);
  QueueView<std::atomic> view;
  view.control = reinterpret_cast<Control<std::atomic>*>(bytes + header.control_offset);
  view.daemons = reinterpret_cast<DaemonRecord<std::atomic>*>(bytes + header.daemons_offset);
  view.cells = reinterpret_cast<std::atomic<std::uint64_t>*>(bytes + header.cells_offset);
  view.done_bits = reinterpret_cast<std::atomic<std::uint64_t>*>(bytes + header.done_bits_offset);
  view.slots = reinterpret_cast<TaskSlot<std::atomic>*>(bytes + header.slots_offset);
  view.host = host;
  view.slot_count = header.slot_count;
  view.daemon_max = header.daemon_max;
  return view;
}

}  // namespace setsuna::runtime
