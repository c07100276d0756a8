// The remote daemons of a pool: who has room for a task, which tasks each has in hand, which constants it keeps. What becomes
// of a task is the pool's to say (pool_links.cpp). A task in a link's hands is called a flight, and named by its slot.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "dispatch/constants.hpp"
#include "dispatch/index_list.hpp"
#include "dispatch/link_constants.hpp"
#include "dispatch/ports.hpp"

namespace setsuna::dispatch {

inline constexpr std::uint32_t kNoLink = 0xFFFFFFFF;
inline constexpr std::uint32_t kLinkQueueBase = 2048;  // number of link i's own queue: kLinkQueueBase + i
inline constexpr std::uint32_t kMaxLinks = 32768;
inline constexpr std::uint64_t kBulkBytes = std::uint64_t{256} << 10;  // nothing is sent ahead behind so much

constexpr bool is_link_queue(std::uint32_t queue) {
  return queue >= kLinkQueueBase && queue < kLinkQueueBase + kMaxLinks;
}

struct LinkInfo {
  enum class State : std::uint8_t { kVacant, kOnline, kLeaving } state = State::kVacant;
  std::uint32_t epoch = 0;
  std::int32_t pid = 0;
  std::uint64_t assigned = 0;
  std::uint64_t completed = 0;
  std::uint32_t in_flight = 0;  // tasks that it has not answered
};

struct Fifo {
  std::uint32_t head = kNoTask, tail = kNoTask;
};

class Links {
 public:
  using Bytes = std::vector<std::uint8_t>;

  // With at most this many prefetched tasks there is always a constant that none of them needs.
  static constexpr std::uint32_t kMaxPrefetch = LinkConstants::kMax - 1;

  // `port` null: there are no links.
  Links(LinkPort* port, std::uint32_t prefetch, Constants& constants)
      : port_(port), prefetch_(prefetch < kMaxPrefetch ? prefetch : kMaxPrefetch), constants_(constants) {}

  // --- The table -------------------------------------------------------------------------------------------
  const std::vector<LinkInfo>& info() const { return info_; }
  bool exists(std::uint32_t link) const { return link < info_.size() && info_[link].state != LinkInfo::State::kVacant; }
  // It may be given tasks.
  bool online(std::uint32_t link) const { return link < info_.size() && links_[link].position != kNoIndex; }
  const std::vector<std::uint32_t>& all_online() const { return online_; }
  std::uint32_t busy() const { return busy_; }

  // `log`, if not null, goes to it before any task. kNoLink: there are too many.
  std::uint32_t add(std::int32_t pid, std::shared_ptr<const Bytes> log);
  // It is given no more tasks.
  void close(std::uint32_t link);
  // It is dead: nothing is sent to it any more.
  void bury(std::uint32_t link) {
    close(link);
    links_[link].buried = true;
  }
  // After bury(), when its flights have been taken with take_flight(). Constants whose bytes had not left are told.
  std::vector<std::uint32_t> remove(std::uint32_t link);
  void kill(std::uint32_t link);
  void stop_all();

  // --- Who is to be fed ------------------------------------------------------------------------------------
  Fifo& fifo(std::uint32_t link) { return links_[link].fifo; }
  // Its own queue was empty, or is now.
  void queue_changed(std::uint32_t link) { relist(link); }
  // A link that has room and something of its own to be sent (a replay, its queue), or kNoLink.
  std::uint32_t next_with_own() const { return lists_[kOwn].front(); }
  // One that has nothing in hand; the longest idle first.
  std::uint32_t next_idle() const { return lists_[kIdle].front(); }
  // One that runs a task and may hold one more: not while many bytes are on their way to it, behind which that would wait.
  std::uint32_t next_spare() const { return lists_[kSpare].front(); }
  bool has_room(std::uint32_t link) const {
    const std::uint32_t ahead = links_[link].bulk_leaving == 0 ? prefetch_ : 0;
    return online(link) && !links_[link].owes_replay && !links_[link].replaying && info_[link].in_flight <= ahead;
  }
  std::uint32_t prefetch() const { return prefetch_; }
  void set_prefetch(std::uint32_t prefetch);

  // --- everywhere() for those that come late ---------------------------------------------------------------
  bool owes_replay(std::uint32_t link) const { return links_[link].owes_replay; }
  void send_replay(std::uint32_t link);
  // True: the id is of the link's replay, which has been run (on_replay_done) or has left (on_replay_sent).
  bool on_replay_done(std::uint32_t link, std::uint64_t id);
  bool on_replay_sent(std::uint32_t link, std::uint64_t id);

  // --- Flights ---------------------------------------------------------------------------------------------
  // `constant`: the index of content.const_key. `bound`: no other link may run it. `elements`: 1, or those of a range.
  void send(std::uint32_t link, std::uint32_t slot, std::uint64_t id, const SlotContent& content,
            std::uint32_t constant, bool bound, std::uint32_t elements);
  bool holds(std::uint32_t slot) const { return slot < flights_.size() && flights_[slot].link != kNoLink; }
  std::uint32_t link_of(std::uint32_t slot) const { return holds(slot) ? flights_[slot].link : kNoLink; }
  bool bound(std::uint32_t slot) const { return flights_[slot].bound; }
  bool answered(std::uint32_t slot) const { return flights_[slot].answer != Answer::kNone; }
  bool retracted(std::uint32_t slot) const { return flights_[slot].answer == Answer::kRetracted; }

  enum class Answer : std::uint8_t { kNone, kResult, kRetracted };
  // True: the flight is over. False: its arguments have not left yet; on_sent() will say that it is over.
  bool answer(std::uint32_t slot, Answer answer);
  bool on_sent(std::uint32_t slot);
  // Its constant's index, to be released; or kNoConstant.
  std::uint32_t on_constant_sent(std::uint32_t link, std::uint64_t key);
  void constant_released(std::uint64_t key);
  void cancel(std::uint32_t slot);
  void cancel_element(std::uint32_t slot, std::uint32_t position);
  // What has not begun of the range that the link runs.
  void ask_rest_back(std::uint32_t slot) { port_->retract(flights_[slot].link, flights_[slot].id, false); }
  // The link has told of so many of a range's elements: they are done, or it will not begin them.
  void count_elements(std::uint32_t slot, std::uint32_t done, std::uint32_t back);
  // It is the oldest in its link's hands: what the link runs, as far as the host can know.
  bool runs(std::uint32_t slot) const;
  // That one; or kNoIndex.
  std::uint32_t oldest_unanswered(std::uint32_t link) const { return first_unanswered(link); }
  // Asks for as many prefetched tasks back as there are idle links (or all), less those asked for already.
  void retract_for_idle(bool all);
  bool any_prefetched() const { return !prefetched_.empty(); }
  // The oldest flight of a link, which is over with this; or kNoSlot.
  std::uint32_t take_flight(std::uint32_t link);
  std::uint32_t oldest_flight(std::uint32_t link) const { return links_[link].flights.front(); }

  // Slots claimed by the host whose tasks came back from a link and wait for another, oldest first.
  void park(std::uint32_t slot);
  void unpark(std::uint32_t slot);
  bool parked(std::uint32_t slot) const { return slot < flights_.size() && flights_[slot].parked; }
  std::uint32_t next_parked() const { return parked_.front(); }

  // Aborts on a broken invariant.
  void sanity_check() const;

 private:
  enum List : std::uint8_t { kOwn, kIdle, kSpare, kNoList };

  // What few links need is apart: thousands of them may idle.
  struct Link {
    Fifo fifo;
    IndexList flights;  // in the order of sending
    ListNode in_list;
    std::uint32_t position = kNoIndex;  // in online_
    List list = kNoList;
    bool buried = false;
    bool owes_replay = false;
    bool replaying = false;
    std::uint32_t bulk_leaving = 0;    // arguments and constants of kBulkBytes and more that have not left
    std::shared_ptr<const Bytes> log;  // until it has left
    std::unique_ptr<LinkConstants> constants;
  };
  static_assert(sizeof(Link) <= 80);
  struct Flight {
    std::uint32_t link = kNoLink;
    std::uint64_t id = 0;
    std::uint64_t cancel_elements = 0;  // of a range: bits, to be told when it has gone
    ListNode in_link;
    ListNode in_prefetched;
    Answer answer = Answer::kNone;
    std::uint8_t constant = LinkConstants::kNone;
    std::uint8_t elements = 1;  // that the link has not told of
    bool bound = false;
    bool parked = false;  // and in no link's hands
    bool sent = false;
    bool prefetched = false;  // in that list
    bool cancel = false;      // asked for; goes when the task has gone: an earlier message would not find it
    bool retract = false;
    bool bulk = false;  // and counted in bulk_leaving
  };

  auto link_node() {
    return [this](std::uint32_t link) -> ListNode& { return links_[link].in_list; };
  }
  auto flight_node() {
    return [this](std::uint32_t slot) -> ListNode& { return flights_[slot].in_link; };
  }
  auto prefetched_node() {
    return [this](std::uint32_t slot) -> ListNode& { return flights_[slot].in_prefetched; };
  }

  List list_for(std::uint32_t link) const;
  void relist(std::uint32_t link);
  void leave_online(std::uint32_t link);
  std::uint8_t provide_constant(std::uint32_t link, const SlotContent& content, std::uint32_t constant);
  std::uint32_t first_unanswered(std::uint32_t link) const;
  void leave_prefetched(std::uint32_t slot);
  void head_changed(std::uint32_t link);
  // It is asked back no longer.
  void count_retraction(Flight& flight);
  void count_answer(Flight& flight);
  void remove_flight(std::uint32_t slot);

  LinkPort* port_;
  std::uint32_t prefetch_;
  Constants& constants_;
  std::vector<LinkInfo> info_;
  std::vector<Link> links_;
  std::vector<std::uint32_t> vacant_;
  std::vector<std::uint32_t> online_;
  IndexList lists_[kNoList];
  std::uint32_t idle_count_ = 0;
  std::uint32_t busy_ = 0;
  std::vector<Flight> flights_;  // by slot
  IndexList prefetched_;         // flights that wait behind another and may be asked back, oldest first
  IndexList parked_;
  std::uint32_t retracting_ = 0;
  std::unordered_map<std::uint64_t, std::vector<std::uint32_t>> holders_;  // by key: links that were sent it
};

}  // namespace setsuna::dispatch
