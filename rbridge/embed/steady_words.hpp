// Words of R's memory that stay the same as long as nobody assigns to certain variables: how cheaply one sees after a task of
// a fraction of a microsecond that it has changed nothing.
#pragma once

#include <cstddef>
#include <cstdint>

#include "rbridge/codec/r_api.hpp"

namespace setsuna::embed {

// Plain data, zero-initialised; begin() before the first use.
class SteadyWords {
 public:
  // Forgets all.
  void begin();
  // The variables of an environment and what it encloses; not the value of `except`. False: not an ordinary environment.
  bool add_environment(SEXP env, SEXP except);
  // The cells of a pairlist and their values.
  bool add_list(SEXP list, SEXP except);
  // What an environment encloses, and the value of a symbol in base.
  bool add_enclosing(SEXP env);
  bool add_base_value(SEXP symbol);
  // Everything with a state of its own that can be reached from x: environments, promises. False: too much, or a kind of
  // object whose state is not seen (external pointers).
  bool add_reachable(SEXP x);
  // False for one that has been forced, or is no promise.
  bool add_unused_promise(SEXP x);
  // All are looked at: they nearly always are unchanged, and so no load waits for a branch.
  bool unchanged() const {
    Two differ = {0, 0};
    for (std::size_t i = 0; i < pair_count_; ++i) {
      differ |= *reinterpret_cast<const Two*>(pairs_[i].at) ^ *reinterpret_cast<const Two*>(pairs_[i].values);
    }
    bool same = (differ[0] | differ[1]) == 0;
    for (std::size_t i = 0; i < word_count_; ++i) {
      same = same && *words_[i].at == words_[i].value;
    }
    return same;
  }
  void release();

 private:
  struct Word {
    const SEXP* at;
    SEXP value;
  };
  // Two words that lie side by side are compared at once.
  using Two [[gnu::vector_size(16), gnu::aligned(8), gnu::may_alias]] = std::uint64_t;
  struct Pair {
    const SEXP* at;
    SEXP values[2];
  };
  bool add(const SEXP* at);
  bool add_two(const SEXP* at);
  bool keep(SEXP x);
  bool visit(SEXP x, int depth);
  bool visit_environment(SEXP env, int depth);
  bool visit_pairs(SEXP list, int depth);
  bool seen(SEXP x) const;

  Word* words_ = nullptr;
  std::size_t word_count_ = 0, word_capacity_ = 0;
  Pair* pairs_ = nullptr;
  std::size_t pair_count_ = 0, pair_capacity_ = 0;
  SEXP kept_ = nullptr;  // a preserved list of what is watched
  std::size_t visits_ = 0;
};

}  // namespace setsuna::embed
