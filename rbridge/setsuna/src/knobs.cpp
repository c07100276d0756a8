// The table of what can be tuned, as R sees it. Names, units, defaults and ranges stand here and nowhere else.
#include "knobs.hpp"

#include <iterator>

#include "dispatch/links.hpp"
#include "glue.hpp"
#include "host.hpp"
#include "runtime/extent_table.hpp"

namespace setsuna::host {
namespace {

constexpr Knobs kPreset;
constexpr SessionKnobs kSession;

constexpr KnobInfo kKnobs[] = {
    {"spin", "us", kPreset.spin_us, 0, 1e6, "", false, false,
     "how long a process that waits looks for an answer before it sleeps. Shortens round trips where each side has a "
     "CPU of "
     "its own; takes CPU time.",
     "tools/bench --rows=round_trip,round_trip_spin"},
    {"wake_batch", "tasks", kPreset.wake_batch, 1, 65536, "", false, false,
     "where the session waits for many results, it is woken once for so many of them, at most.",
     "setsuna tune --goal=throughput --knobs=wake_batch"},
    {"slots", "tasks", kPreset.slots, 64, 32768, "", true, false,
     "tasks that lie in shared memory, 1 KB each, used as needed; those beyond wait in the session. A power of two.",
     "setsuna tune --goal=memory --knobs=slots"},
    {"inline_bytes", "bytes", kPreset.inline_bytes, 0, runtime::kInlineArgBytes, "", false, false,
     "encoded arguments and results up to this size lie in their task's slot, which has no room for more than the "
     "default; "
     "larger ones in a block of the arena. (Short elements of a map, which travel together, are not concerned.)",
     "setsuna tune --knobs=inline_bytes"},
    {"prefetch", "tasks", kPreset.prefetch, 0, dispatch::Links::kMaxPrefetch, "", false, false,
     "short tasks that a daemon on another machine is sent ahead, beyond the one that it evaluates. Tasks that take "
     "longer "
     "than about a millisecond are never sent ahead.",
     "setsuna tune --goal=throughput --knobs=prefetch"},
    {"codec", "", 0, 0, 0, "native|serialize", false, false,
     "how arguments and results are encoded: natively, or by R's serialize alone.", "setsuna tune --knobs=codec"},
    {"arena", "MB", static_cast<double>(kPreset.arena_bytes) / kMegabyte, 0,
     static_cast<double>(runtime::kMaxExtents) * runtime::kExtentBytes / kMegabyte, "", false, false,
     "the most shared memory for arguments and results that do not fit a slot; 0 is as much as this process may have. "
     "At "
     "least 8 MB are taken. It has pages only where it is used.",
     "setsuna tune --goal=memory --knobs=arena"},
    {"growth", "extents of 2 MB", kPreset.growth_extents, 1, 64, "", false, false,
     "where small blocks need more memory, up to so many extents get their pages in one call to the kernel.",
     "setsuna tune --goal=memory --knobs=growth"},
    {"send_zc", "bytes", static_cast<double>(kSession.ring.send_zc_bytes), 0, 1 << 30, "", false, true,
     "sends to other machines of at least so many bytes are not copied by the kernel (io_uring's SEND_ZC, Linux 6.1); "
     "0: all "
     "are. The next send on that connection then waits for the acknowledgement of this one.",
     "setsuna tune --goal=throughput --knobs=send_zc"},
    {"reactor", "", 0, 0, 0, "auto|io_uring|epoll", false, true,
     "how the session waits for the kernel; auto: by io_uring where that works. The environment variable "
     "SETSUNA_REACTOR "
     "goes before it.",
     "setsuna tune --knobs=reactor"},
    {"ring", "", 0, 0, 0, "deferred|single_issuer|cooperative|plain", false, true,
     "what is asked of io_uring, where the kernel has it: completions worked on when the session asks for them, by one "
     "thread "
     "only; one thread only, without interrupting it; without interrupting it; nothing.",
     "setsuna tune --knobs=ring"},
};

SEXP strings(const char* KnobInfo::*field) {
  SEXP out = PROTECT(Rf_allocVector(STRSXP, std::size(kKnobs)));
  for (std::size_t i = 0; i < std::size(kKnobs); ++i) {
    SET_STRING_ELT(out, static_cast<R_xlen_t>(i), Rf_mkChar(kKnobs[i].*field));
  }
  UNPROTECT(1);
  return out;
}

SEXP numbers(double KnobInfo::*field) {
  SEXP out = Rf_allocVector(REALSXP, std::size(kKnobs));
  for (std::size_t i = 0; i < std::size(kKnobs); ++i) {
    REAL(out)[i] = kKnobs[i].*field;
  }
  return out;
}

SEXP flags(bool KnobInfo::*field) {
  SEXP out = Rf_allocVector(LGLSXP, std::size(kKnobs));
  for (std::size_t i = 0; i < std::size(kKnobs); ++i) {
    LOGICAL(out)[i] = kKnobs[i].*field ? TRUE : FALSE;
  }
  return out;
}

// A list of columns, each with an entry for each knob.
SEXP knob_table() {
  const char* names[] = {"name",  "unit",    "preset",  "low",      "high", "choices",
                         "power", "session", "meaning", "evidence", ""};
  SEXP out = PROTECT(Rf_mkNamed(VECSXP, names));
  SET_VECTOR_ELT(out, 0, strings(&KnobInfo::name));
  SET_VECTOR_ELT(out, 1, strings(&KnobInfo::unit));
  SET_VECTOR_ELT(out, 2, numbers(&KnobInfo::preset));
  SET_VECTOR_ELT(out, 3, numbers(&KnobInfo::low));
  SET_VECTOR_ELT(out, 4, numbers(&KnobInfo::high));
  SET_VECTOR_ELT(out, 5, strings(&KnobInfo::choices));
  SET_VECTOR_ELT(out, 6, flags(&KnobInfo::power_of_two));
  SET_VECTOR_ELT(out, 7, flags(&KnobInfo::session));
  SET_VECTOR_ELT(out, 8, strings(&KnobInfo::meaning));
  SET_VECTOR_ELT(out, 9, strings(&KnobInfo::evidence));
  UNPROTECT(1);
  return out;
}

// c(reactor, ring, send_zc): what is in force, or will be once the reactor starts. Words as places among their choices.
SEXP session_knobs() {
  const SessionKnobs& now = Host::session();
  SEXP out = Rf_allocVector(REALSXP, 3);
  REAL(out)[0] = static_cast<double>(now.reactor);
  REAL(out)[1] = static_cast<double>(now.ring.best);
  REAL(out)[2] = static_cast<double>(now.ring.send_zc_bytes);
  return out;
}

// The same, to be set. FALSE: the reactor runs already, and nothing was changed.
SEXP session_knobs_set(SEXP values) {
  if (Host::existing() != nullptr) {
    return Rf_ScalarLogical(FALSE);
  }
  SessionKnobs wanted;
  wanted.reactor = static_cast<net::ReactorChoice>(static_cast<int>(REAL(values)[0]));
  wanted.ring.best = static_cast<net::RingKind>(static_cast<int>(REAL(values)[1]));
  wanted.ring.send_zc_bytes = static_cast<std::size_t>(REAL(values)[2]);
  Host::set_session(wanted);
  return Rf_ScalarLogical(TRUE);
}

}  // namespace
}  // namespace setsuna::host

extern const R_CallMethodDef kKnobEntries[] = {
    SETSUNA_ENTRY(knob_table, setsuna::host::knob_table, 0),
    SETSUNA_ENTRY(session_knobs, setsuna::host::session_knobs, 0),
    SETSUNA_ENTRY(session_knobs_set, setsuna::host::session_knobs_set, 1),
    {nullptr, nullptr, 0},
};
