// Blocks of the data area that tasks, constants and the log of everywhere() share.
#include "dispatch/pool.hpp"

namespace setsuna::dispatch {

using runtime::kNoBlockId;
using runtime::kNoSlot;

std::uint16_t Pool::new_block_id() {
  if (free_blocks_.empty()) {
    sweep_blocks();
  }
  if (free_blocks_.empty()) {
    return kNoBlockId;  // daemons then copy instead of making views
  }
  const std::uint16_t block = free_blocks_.back();
  free_blocks_.pop_back();
  return block;
}

void Pool::retire_block(std::uint64_t offset, std::uint16_t block) {
  if (block != kNoBlockId && arena_.held(block)) {
    held_blocks_.push_back({offset, block});
    return;
  }
  arena_.release(offset);
  if (block != kNoBlockId) {
    free_blocks_.push_back(block);
  }
}

void Pool::sweep_blocks() {
  std::size_t kept = 0;
  for (const HeldBlock& held : held_blocks_) {
    if (arena_.held(held.block)) {
      held_blocks_[kept++] = held;
    } else {
      arena_.release(held.offset);
      free_blocks_.push_back(held.block);
    }
  }
  held_blocks_.resize(kept);
}

void Pool::release_constant(std::uint32_t constant) {
  if (constants_.release(constant)) {
    const Constant gone = constants_[constant];
    constants_.forget(constant);
    links_.constant_released(gone.key);
    retire_block(gone.offset, gone.block);
  }
}

// --- everywhere() ------------------------------------------------------------------------------------------

void Pool::log_everywhere(const std::uint8_t* bytes, std::uint64_t length) {
  const auto* prefix = reinterpret_cast<const std::uint8_t*>(&length);
  log_.insert(log_.end(), prefix, prefix + sizeof(length));
  log_.insert(log_.end(), bytes, bytes + length);
}

// Once there is a log, as many slots as there are daemons are kept from tasks.
std::uint32_t Pool::slot_for_task() {
  while (!log_.empty() && replay_slots_.size() < daemons_.size()) {
    const std::uint32_t slot = queue_.acquire_slot();
    if (slot == kNoSlot) {
      return kNoSlot;
    }
    replay_slots_.push_back(slot);
  }
  return queue_.acquire_slot();
}

std::uint32_t Pool::slot_for_replay() {
  if (replay_slots_.empty()) {
    return queue_.acquire_slot();
  }
  const std::uint32_t slot = replay_slots_.back();
  replay_slots_.pop_back();
  return slot;
}

// The whole log as one task at the front of a new daemon's mailbox. False: no room for it now.
bool Pool::replay_to(std::uint32_t index) {
  if (log_.empty()) {
    return true;
  }
  SlotContent content;
  content.kind = TaskKind::kReplay;
  content.arg_bytes = log_.size();
  bool in_area = false;
  if (log_.size() <= runtime::kInlineArgBytes) {
    content.inline_arg = log_.data();
  } else {
    if (store_ == nullptr || !store_(store_context_, log_.data(), log_.size(), &content.arg_offset)) {
      return false;
    }
    in_area = true;
  }
  content.task = kNoTask;
  const std::uint32_t slot = slot_for_replay();
  std::uint32_t generation = 0;
  if (slot == kNoSlot || !queue_.publish(slot, content, index, &generation)) {
    if (slot != kNoSlot) {
      queue_.return_unused(slot);
    }
    if (in_area) {
      arena_.release(content.arg_offset);
    }
    return false;
  }
  if (slots_.size() <= slot) {
    slots_.resize(slot + 1);
  }
  slots_[slot] = SlotUse{kNoTask, kNoConstant, content.arg_offset, 0, index, generation, kNoBlockId, 0, true,
                         in_area, true,        TaskKind::kReplay};
  return true;
}

}  // namespace setsuna::dispatch
