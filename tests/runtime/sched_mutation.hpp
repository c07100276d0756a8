// What is switched off or weakened in the code under test, to show that a test would notice: one rule (the sources
// say SETSUNA_RULE(name)) or one memory order (named by where it stands in the source).
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <map>
#include <source_location>
#include <string>
#include <tuple>

namespace sched {

inline constexpr std::uint64_t rule_id(const char* name) {
  std::uint64_t hash = 0xCBF29CE484222325ULL;
  for (; *name != '\0'; ++name) {
    hash = (hash ^ static_cast<unsigned char>(*name)) * 0x100000001B3ULL;
  }
  return hash;
}

// An order in the source: which = 0 the only or the success order, 1 the failure order of a compare_exchange.
struct OrderSite {
  std::string file;
  std::uint32_t line = 0, column = 0;
  int which = 0;
  auto operator<=>(const OrderSite&) const = default;
};

class Mutation {
 public:
  bool rule_holds(std::uint64_t id) const { return id != rule_off_; }
  void switch_off(const char* rule) { rule_off_ = rule_id(rule); }

  void weaken(const OrderSite& site, std::memory_order to) {
    site_ = site;
    weaken_ = true;
    to_ = to;
  }
  void record(std::map<OrderSite, std::memory_order>* sites) { sites_ = sites; }
  void clear() {
    rule_off_ = 0;
    weaken_ = false;
    sites_ = nullptr;
  }

  std::memory_order order(std::memory_order order, const std::source_location& where, int which) {
    if (sites_ != nullptr) [[unlikely]] {
      sites_->emplace(OrderSite{where.file_name(), where.line(), where.column(), which}, order);
    }
    if (weaken_ && where.line() == site_.line && where.column() == site_.column && which == site_.which &&
        site_.file == where.file_name()) [[unlikely]] {
      return to_;
    }
    return order;
  }

 private:
  std::uint64_t rule_off_ = 0;
  bool weaken_ = false;
  OrderSite site_;
  std::memory_order to_{};
  std::map<OrderSite, std::memory_order>* sites_ = nullptr;
};

inline Mutation& mutation() {
  static Mutation instance;
  return instance;
}

}  // namespace sched
