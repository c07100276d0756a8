// What must hold in the queue's shared memory between any two instructions of anybody, whoever has died. For memory at
// rest (a scheduler between steps, a copy): nobody writes meanwhile.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "runtime/layout.hpp"
#include "runtime/queue_view.hpp"
#include "runtime/slot_word.hpp"

namespace queue_test {

using setsuna::runtime::DaemonRecord;
using setsuna::runtime::QueueView;
using setsuna::runtime::RingCell;
using setsuna::runtime::SlotState;
using setsuna::runtime::SlotWord;

template <class T>
T peek(const std::atomic<T>& atom) {
  return atom.load(std::memory_order_relaxed);
}
template <class A>
auto peek(const A& atom) {
  return atom.peek();
}

// One ring, looked at from outside.
template <template <class> class Atom>
struct RingAtRest {
  const Atom<std::uint64_t>* cells;
  std::uint32_t size;
  std::uint64_t head, tail;

  RingCell cell(std::uint64_t ticket) const { return RingCell(peek(cells[ticket & (size - 1)])); }
  std::uint32_t lap(std::uint64_t ticket) const { return static_cast<std::uint32_t>(ticket / size); }
};

template <template <class> class Atom>
RingAtRest<Atom> ready_ring(const QueueView<Atom>& view) {
  return {view.cells, view.slot_count, peek(view.control->ring_head), peek(view.control->ring_tail)};
}
template <template <class> class Atom>
RingAtRest<Atom> mailbox(const QueueView<Atom>& view, std::uint32_t daemon) {
  DaemonRecord<Atom>& record = view.daemon(daemon);
  return {record.mailbox.data(), setsuna::runtime::kMailboxCells, peek(record.mailbox_head), peek(record.mailbox_tail)};
}

// Counts, for every slot, the cells that name it and those that offer it as it is now.
struct SlotCells {
  std::uint32_t naming[64] = {};
  std::uint32_t offering[64] = {};
};

// Every cell is where its lap says. Returns what is wrong.
template <template <class> class Atom>
std::string check_ring(const QueueView<Atom>& view, const RingAtRest<Atom>& ring, const char* name, SlotCells* cells) {
  const auto wrong = [name](const char* what, std::uint64_t ticket) {
    return std::string(name) + ": " + what + " at ticket " + std::to_string(ticket);
  };
  // The producer moves the tail after it has filled a cell, so a consumer's head may be one ahead of it.
  if (ring.head > ring.tail + 1) {
    return wrong("head beyond the tail", ring.head);
  }
  const std::uint64_t window =
      ring.size <= 64 ? ring.size : (ring.tail + 2 > ring.head ? ring.tail + 2 - ring.head : 0);
  for (std::uint64_t ticket = ring.head; ticket < ring.head + window; ++ticket) {
    const RingCell cell = ring.cell(ticket);
    if (cell.lap() == ring.lap(ticket) + 1) {
      // Retired, and the head has not been helped past it yet: that can only be the head itself.
      if (ticket != ring.head || !cell.is_empty()) {
        return wrong("a cell was retired that is not at the head", ticket);
      }
      continue;
    }
    if (cell.lap() != ring.lap(ticket)) {
      return wrong("a cell of another lap", ticket);
    }
    if (cell.is_empty()) {
      if (ticket < ring.tail) {
        return wrong("an empty cell before the tail", ticket);
      }
      continue;
    }
    if (ticket > ring.tail) {
      return wrong("an item beyond the tail", ticket);
    }
    if (cell.slot() >= view.slot_count) {
      return wrong("a slot that does not exist", ticket);
    }
    const SlotWord word(peek(view.slots[cell.slot()].word));
    ++cells->naming[cell.slot()];
    const bool is_offer = cell.offers(word);
    cells->offering[cell.slot()] += is_offer;
    if ((word.state() == SlotState::kClaimed || word.state() == SlotState::kDoomed) &&
        (word.generation() & 0xFFFFU) == cell.generation() && ticket != ring.head) {
      return wrong("a claimed slot whose cell is not at the head", ticket);
    }
  }
  return {};
}

template <template <class> class Atom>
std::string check_slot(const QueueView<Atom>& view, std::uint32_t slot, const SlotCells& cells, bool host_is_pushing) {
  const auto wrong = [slot](const char* what) { return "slot " + std::to_string(slot) + ": " + what; };
  const SlotWord word(peek(view.slots[slot].word));
  if (cells.naming[slot] > 1) {
    return wrong("more than one cell");  // invariant 1
  }
  if (word.owner() == setsuna::runtime::kHostOwner) {
    return word.state() == SlotState::kClaimed && word.epoch() == setsuna::runtime::kHostEpoch
               ? ""
               : wrong("the host's, yet not claimed");
  }
  const std::uint32_t epoch_now = word.owner() < view.daemon_max ? peek(view.daemon(word.owner()).epoch) : 0;
  switch (word.state()) {
    case SlotState::kFree:
    case SlotState::kCancelled:
      return word.owner() == 0 && word.epoch() == 0 ? "" : wrong("nobody's, yet with an owner");
    case SlotState::kReady:
      return cells.offering[slot] == 1 || host_is_pushing ? "" : wrong("READY without a cell that offers it");
    case SlotState::kClaimed:
    case SlotState::kDone:
    case SlotState::kDoomed:
      return word.owner() < view.daemon_max && word.epoch() != 0 &&
                     (word.epoch() == epoch_now || word.state() == SlotState::kDone)
                 ? ""
                 : wrong("owned by nobody who lives here");
  }
  return wrong("no such state");
}

// What is wrong, or an empty string. host_is_pushing: the host is inside its mutex, between READY and the cell.
template <template <class> class Atom>
std::string check_invariants(const QueueView<Atom>& view, bool host_is_pushing) {
  SlotCells cells;
  std::string wrong = check_ring(view, ready_ring(view), "ready ring", &cells);
  for (std::uint32_t i = 0; i < view.daemon_max && wrong.empty(); ++i) {
    wrong = check_ring(view, mailbox(view, i), "mailbox", &cells);
  }
  for (std::uint32_t i = 0; i < view.slot_count && wrong.empty(); ++i) {
    wrong = check_slot(view, i, cells, host_is_pushing);
  }
  for (std::uint32_t w = 0; w < view.idle_words() && wrong.empty(); ++w) {
    const std::uint32_t here = view.daemon_max - w * 64;
    const std::uint64_t nobody = here >= 64 ? 0 : ~((std::uint64_t{1} << here) - 1);
    if ((peek(view.control->idle[w]) & nobody) != 0) {
      wrong = "an idle bit of a daemon that does not exist";
    }
  }
  return wrong;
}

// An item that the daemon could claim now: in the shared queue, or in its own mailbox.
template <template <class> class Atom>
bool offers_work(const QueueView<Atom>& view, const RingAtRest<Atom>& ring) {
  for (std::uint64_t ticket = ring.head; ticket <= ring.tail && ticket < ring.head + ring.size; ++ticket) {
    const RingCell cell = ring.cell(ticket);
    if (cell.lap() == ring.lap(ticket) && !cell.is_empty() &&
        cell.offers(SlotWord(peek(view.slots[cell.slot()].word)))) {
      return true;
    }
  }
  return false;
}
template <template <class> class Atom>
bool work_for(const QueueView<Atom>& view, std::uint32_t daemon) {
  return offers_work(view, ready_ring(view)) || offers_work(view, mailbox(view, daemon));
}

}  // namespace queue_test
