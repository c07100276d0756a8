#include "dispatch/links.hpp"

#include <algorithm>
#include <bit>
#include <utility>

#include "dispatch/link_wire.hpp"
#include "runtime/assert.hpp"

namespace setsuna::dispatch {

using runtime::kNoSlot;

namespace {

// The replay is in no slot.
std::uint64_t replay_id(const LinkInfo& info) { return link_task_id(kNoSlot, info.epoch); }

}  // namespace

// --- The table ---------------------------------------------------------------------------------------------

std::uint32_t Links::add(std::int32_t pid, std::shared_ptr<const Bytes> log) {
  if (port_ == nullptr || (vacant_.empty() && info_.size() >= kMaxLinks)) {
    return kNoLink;
  }
  std::uint32_t link = static_cast<std::uint32_t>(info_.size());
  if (vacant_.empty()) {
    info_.emplace_back();
    links_.emplace_back();
  } else {
    link = vacant_.back();
    vacant_.pop_back();
  }
  LinkInfo& info = info_[link];
  const std::uint32_t epoch = info.epoch + 1;
  info = LinkInfo();
  info.state = LinkInfo::State::kOnline;
  info.epoch = epoch;
  info.pid = pid;
  links_[link].owes_replay = log != nullptr;
  links_[link].log = std::move(log);
  links_[link].position = static_cast<std::uint32_t>(online_.size());
  online_.push_back(link);
  relist(link);
  return link;
}

void Links::leave_online(std::uint32_t link) {
  const std::uint32_t position = std::exchange(links_[link].position, kNoIndex);
  if (position != kNoIndex) {
    const std::uint32_t last = online_.back();
    online_.pop_back();
    if (last != link) {
      online_[position] = last;
      links_[last].position = position;
    }
    relist(link);
  }
}

void Links::close(std::uint32_t link) {
  info_[link].state = LinkInfo::State::kLeaving;
  leave_online(link);
}

std::vector<std::uint32_t> Links::remove(std::uint32_t link) {
  SETSUNA_ASSERT(links_[link].position == kNoIndex && links_[link].flights.empty());
  SETSUNA_ASSERT(links_[link].fifo.head == kNoTask && info_[link].in_flight == 0);
  std::vector<std::uint32_t> constants;
  if (links_[link].constants) {
    for (const LinkConstants::Leaving& leaving : links_[link].constants->leaving) {
      constants.push_back(leaving.constant);
    }
  }
  links_[link] = Link();
  info_[link].state = LinkInfo::State::kVacant;
  vacant_.push_back(link);
  return constants;
}

void Links::kill(std::uint32_t link) {
  leave_online(link);
  port_->kill(link);
}

void Links::stop_all() {
  for (const std::uint32_t link : online_) {
    port_->stop(link);
  }
}

// --- Who is to be fed --------------------------------------------------------------------------------------

Links::List Links::list_for(std::uint32_t link) const {
  const Link& it = links_[link];
  if (it.owes_replay && it.position != kNoIndex) {
    return kOwn;
  }
  if (!has_room(link)) {
    return kNoList;
  }
  if (it.fifo.head != kNoTask) {
    return kOwn;
  }
  return info_[link].in_flight == 0 ? kIdle : kSpare;
}

void Links::set_prefetch(std::uint32_t prefetch) {
  prefetch_ = std::min(prefetch, kMaxPrefetch);
  for (const std::uint32_t link : online_) {
    relist(link);
  }
}

void Links::relist(std::uint32_t link) {
  Link& it = links_[link];
  const List list = list_for(link);
  if (list == it.list) {
    return;
  }
  if (it.list != kNoList) {
    lists_[it.list].remove(link, link_node());
    idle_count_ -= it.list == kIdle ? 1 : 0;
  }
  it.list = list;
  if (list != kNoList) {
    lists_[list].push_back(link, link_node());
    idle_count_ += list == kIdle ? 1 : 0;
  }
}

// --- everywhere() for those that come late -----------------------------------------------------------------

void Links::send_replay(std::uint32_t link) {
  Link& it = links_[link];
  it.owes_replay = false;
  it.replaying = true;
  relist(link);
  SlotContent content;
  content.kind = TaskKind::kReplay;
  content.inline_arg = it.log->data();
  content.arg_bytes = it.log->size();
  port_->send_task(link, replay_id(info_[link]), content);
}

bool Links::on_replay_done(std::uint32_t link, std::uint64_t id) {
  if (!exists(link) || !links_[link].replaying || id != replay_id(info_[link])) {
    return false;
  }
  links_[link].replaying = false;
  relist(link);
  return true;
}

bool Links::on_replay_sent(std::uint32_t link, std::uint64_t id) {
  if (!exists(link) || id != replay_id(info_[link])) {
    return false;
  }
  links_[link].log.reset();
  return true;
}

// --- Constants ---------------------------------------------------------------------------------------------

// The link has the constant, or will have had it before what is sent after this.
std::uint8_t Links::provide_constant(std::uint32_t link, const SlotContent& content, std::uint32_t constant) {
  std::unique_ptr<LinkConstants>& constants = links_[link].constants;
  if (!constants) {
    constants = std::make_unique<LinkConstants>();
  }
  std::uint8_t place = constants->find(content.const_key);
  if (place == LinkConstants::kNone) {
    std::uint64_t forgotten = 0;
    place = constants->add(content.const_key, &forgotten);
    if (forgotten != 0) {
      port_->forget_constant(link, forgotten);
    }
    holders_[content.const_key].push_back(link);
    constants_.retain(constant);
    constants->leaving.push_back({content.const_key, constant});
    links_[link].bulk_leaving += content.const_bytes >= kBulkBytes ? 1 : 0;
    port_->send_constant(link, content.const_key, content.const_offset, content.const_bytes);
  }
  constants->use(place);
  return place;
}

std::uint32_t Links::on_constant_sent(std::uint32_t link, std::uint64_t key) {
  if (!exists(link) || !links_[link].constants) {
    return kNoConstant;
  }
  auto& leaving = links_[link].constants->leaving;
  for (std::size_t i = 0; i < leaving.size(); ++i) {
    if (leaving[i].key == key) {
      const std::uint32_t constant = leaving[i].constant;
      leaving[i] = leaving.back();
      leaving.pop_back();
      if (constants_[constant].bytes >= kBulkBytes) {
        --links_[link].bulk_leaving;
        relist(link);
      }
      return constant;
    }
  }
  return kNoConstant;
}

void Links::constant_released(std::uint64_t key) {
  const auto found = holders_.find(key);
  if (found == holders_.end()) {
    return;
  }
  for (const std::uint32_t link : found->second) {
    LinkConstants* constants = links_[link].constants.get();
    const std::uint8_t place = constants == nullptr ? LinkConstants::kNone : constants->find(key);
    if (place != LinkConstants::kNone && !links_[link].buried) {
      constants->forget(place);
      port_->forget_constant(link, key);
    }
  }
  holders_.erase(found);
}

// --- Flights -----------------------------------------------------------------------------------------------

void Links::send(std::uint32_t link, std::uint32_t slot, std::uint64_t id, const SlotContent& content,
                 std::uint32_t constant, bool bound, std::uint32_t elements) {
  SETSUNA_ASSERT(has_room(link) && !holds(slot) && !parked(slot));
  if (flights_.size() <= slot) {
    flights_.resize(slot + 1);
  }
  const std::uint8_t place = content.const_key == 0 ? LinkConstants::kNone : provide_constant(link, content, constant);
  Flight& flight = flights_[slot];
  flight = Flight();
  flight.link = link;
  flight.id = id;
  flight.bound = bound;
  flight.elements = static_cast<std::uint8_t>(elements);
  flight.constant = place;
  flight.bulk = content.arg_bytes >= kBulkBytes;
  links_[link].bulk_leaving += flight.bulk ? 1 : 0;
  LinkInfo& info = info_[link];
  flight.prefetched = info.in_flight > 0 && !bound;
  if (flight.prefetched) {
    prefetched_.push_back(slot, prefetched_node());
  }
  links_[link].flights.push_back(slot, flight_node());
  busy_ += info.in_flight == 0 ? 1 : 0;
  ++info.in_flight;
  info.assigned += elements;
  relist(link);
  port_->send_task(link, id, content);
}

std::uint32_t Links::first_unanswered(std::uint32_t link) const {
  std::uint32_t slot = links_[link].flights.front();
  while (slot != kNoIndex && answered(slot)) {
    slot = flights_[slot].in_link.next;
  }
  return slot;
}

bool Links::runs(std::uint32_t slot) const {
  return holds(slot) && flights_[slot].sent && first_unanswered(flights_[slot].link) == slot;
}

void Links::leave_prefetched(std::uint32_t slot) {
  if (flights_[slot].prefetched) {
    flights_[slot].prefetched = false;
    prefetched_.remove(slot, prefetched_node());
  }
}

// What is the oldest now has begun, or is about to. If it was asked back, that may have come too late and will not be answered
// before its result: another one is asked for in its place.
void Links::head_changed(std::uint32_t link) {
  const std::uint32_t slot = first_unanswered(link);
  if (slot != kNoIndex) {
    leave_prefetched(slot);
    count_retraction(flights_[slot]);
  }
}

void Links::count_retraction(Flight& flight) { retracting_ -= std::exchange(flight.retract, false) ? 1 : 0; }

// It is in the link's hands no longer.
void Links::count_answer(Flight& flight) {
  LinkInfo& info = info_[flight.link];
  SETSUNA_ASSERT(info.in_flight > 0);
  --info.in_flight;
  busy_ -= info.in_flight == 0 ? 1 : 0;
  count_retraction(flight);
  flight.cancel = false;
  if (flight.constant != LinkConstants::kNone) {
    links_[flight.link].constants->unuse(std::exchange(flight.constant, LinkConstants::kNone));
  }
}

void Links::remove_flight(std::uint32_t slot) {
  links_[flights_[slot].link].flights.remove(slot, flight_node());
  flights_[slot] = Flight();
}

bool Links::answer(std::uint32_t slot, Answer answer) {
  Flight& flight = flights_[slot];
  SETSUNA_ASSERT(holds(slot) && !answered(slot));
  const std::uint32_t link = flight.link;
  leave_prefetched(slot);
  count_answer(flight);
  info_[link].completed += answer == Answer::kResult ? flight.elements : 0;
  info_[link].assigned -= answer == Answer::kRetracted ? flight.elements : 0;
  flight.answer = answer;
  const bool over = flight.sent;
  if (over) {
    remove_flight(slot);
  }
  head_changed(link);
  relist(link);
  return over;
}

bool Links::on_sent(std::uint32_t slot) {
  Flight& flight = flights_[slot];
  flight.sent = true;
  if (std::exchange(flight.bulk, false)) {
    --links_[flight.link].bulk_leaving;
    relist(flight.link);
  }
  if (answered(slot)) {
    remove_flight(slot);
    return true;
  }
  if (flight.cancel) {
    port_->cancel(flight.link, flight.id, true);
  }
  for (std::uint64_t bits = std::exchange(flight.cancel_elements, 0); bits != 0; bits &= bits - 1) {
    port_->cancel_element(flight.link, flight.id, static_cast<std::uint32_t>(std::countr_zero(bits)), true);
  }
  if (flight.retract) {
    port_->retract(flight.link, flight.id, true);
  }
  return false;
}

void Links::cancel_element(std::uint32_t slot, std::uint32_t position) {
  Flight& flight = flights_[slot];
  if (flight.sent) {
    port_->cancel_element(flight.link, flight.id, position, false);
  } else {
    flight.cancel_elements |= std::uint64_t{1} << position;
  }
}

void Links::count_elements(std::uint32_t slot, std::uint32_t done, std::uint32_t back) {
  Flight& flight = flights_[slot];
  const std::uint32_t told_done = std::min<std::uint32_t>(done, flight.elements);
  const std::uint32_t told_back = std::min<std::uint32_t>(back, flight.elements - told_done);
  flight.elements = static_cast<std::uint8_t>(flight.elements - told_done - told_back);
  info_[flight.link].completed += told_done;
  info_[flight.link].assigned -= told_back;
  count_retraction(flight);  // it has come back as far as it could
}

void Links::cancel(std::uint32_t slot) {
  Flight& flight = flights_[slot];
  leave_prefetched(slot);
  flight.cancel = true;
  if (flight.sent) {
    port_->cancel(flight.link, flight.id, false);
  }
}

void Links::retract_for_idle(bool all) {
  while (!prefetched_.empty() && (all || retracting_ < idle_count_)) {
    const std::uint32_t slot = prefetched_.front();
    leave_prefetched(slot);
    Flight& flight = flights_[slot];
    flight.retract = true;
    ++retracting_;
    if (flight.sent) {
      port_->retract(flight.link, flight.id, false);
    }
  }
}

std::uint32_t Links::take_flight(std::uint32_t link) {
  const std::uint32_t slot = links_[link].flights.front();
  if (slot == kNoIndex) {
    return kNoSlot;
  }
  leave_prefetched(slot);
  if (!answered(slot)) {
    count_answer(flights_[slot]);
  }
  remove_flight(slot);
  return slot;
}

void Links::park(std::uint32_t slot) {
  SETSUNA_ASSERT(!holds(slot) && !parked(slot));
  flights_[slot].parked = true;
  parked_.push_back(slot, flight_node());
}

void Links::unpark(std::uint32_t slot) {
  parked_.remove(slot, flight_node());
  flights_[slot] = Flight();
}

void Links::sanity_check() const {
  std::size_t online = 0;
  std::uint32_t busy = 0;
  for (std::uint32_t link = 0; link < info_.size(); ++link) {
    std::uint32_t in_flight = 0;
    std::uint32_t with_constant = 0;
    for (std::uint32_t slot = links_[link].flights.front(); slot != kNoIndex; slot = flights_[slot].in_link.next) {
      SETSUNA_ASSERT(flights_[slot].link == link);
      SETSUNA_ASSERT(!answered(slot) || !flights_[slot].sent);
      in_flight += answered(slot) ? 0 : 1;
      with_constant += flights_[slot].constant != LinkConstants::kNone ? 1 : 0;
    }
    online += links_[link].position != kNoIndex ? 1 : 0;
    busy += in_flight > 0 ? 1 : 0;
    SETSUNA_ASSERT(in_flight == info_[link].in_flight && links_[link].list == list_for(link));
    if (links_[link].constants) {
      for (const LinkConstants::Kept& kept : links_[link].constants->kept()) {
        with_constant -= kept.flights;
      }
    }
    SETSUNA_ASSERT(with_constant == 0);
  }
  SETSUNA_ASSERT(online == online_.size() && busy == busy_);
  std::uint32_t retracting = 0;
  for (const Flight& flight : flights_) {
    retracting += flight.retract ? 1 : 0;
  }
  SETSUNA_ASSERT(retracting == retracting_);
}

}  // namespace setsuna::dispatch
