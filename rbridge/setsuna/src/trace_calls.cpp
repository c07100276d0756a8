// What R/trace.R reaches: the records of a traced profile.

#include <algorithm>
#include <cstring>

#include "glue.hpp"
#include "guard.hpp"

namespace setsuna::host {
namespace {

// Columns of C_profile_trace, in its order.
enum Column {
  kTask,
  kDaemon,  // number from 1; of remote ones negative; NA: none had it
  kPid,
  kKind,
  kOutcome,
  kSubmitted,  // seconds since the trace began, as all that follow; NA: it did not come so far
  kQueued,
  kClaimed,
  kDecoded,
  kEvaluated,
  kEncoded,
  kHarvested,
  kEvaluation,  // seconds that it took
  kColumns
};

struct Positions {
  bool traced = false;
  std::uint64_t first = 0;
  std::uint64_t end = 0;
};

// `use` is called with the profile, under the mutex, if it is traced.
template <class Use>
void with_traced(std::uint32_t id, const Use& use) noexcept {
  guarded([&] {
    Host& host = *Host::existing();
    std::lock_guard<std::mutex> lock(host.mutex());
    Profile* profile = host.profile(id);
    if (profile != nullptr && profile->tracing() != nullptr) {
      use(host, *profile);
    }
  });
}

// What is done by now is harvested, and the file is written.
Positions look(std::uint32_t id) noexcept {
  Positions positions;
  with_traced(id, [&](Host& host, Profile& profile) {
    profile.progress();
    host.settle(profile);
    profile.tracing()->write_all();
    const dispatch::Trace& trace = profile.tracing()->trace();
    positions = {true, trace.first(), trace.end()};
  });
  return positions;
}

double seconds(std::uint64_t ns, std::uint64_t started_ns) {
  return ns == 0 ? NA_REAL : (static_cast<double>(ns) - static_cast<double>(started_ns)) / 1e9;
}

int daemon_number(const dispatch::RunStamps& run) {
  if (run.daemon == dispatch::kNoDaemon) {
    return NA_INTEGER;
  }
  return dispatch::is_link_queue(run.daemon) ? -static_cast<int>(run.daemon - dispatch::kLinkQueueBase) - 1
                                             : static_cast<int>(run.daemon) + 1;
}

void fill_row(const dispatch::TraceRecord& record, std::uint64_t started_ns, R_xlen_t row, double* const* doubles,
              int* const* integers) {
  const dispatch::StageEnds ends = dispatch::stage_ends(record);
  integers[kDaemon][row] = daemon_number(record.run);
  integers[kPid][row] = record.run.daemon == dispatch::kNoDaemon ? NA_INTEGER : static_cast<int>(record.run.pid);
  integers[kKind][row] = static_cast<int>(record.kind);
  integers[kOutcome][row] = static_cast<int>(record.outcome) + 1;
  doubles[kTask][row] = static_cast<double>(record.task);
  doubles[kSubmitted][row] = seconds(record.submitted_ns, started_ns);
  doubles[kQueued][row] = seconds(record.queued_ns, started_ns);
  doubles[kClaimed][row] = seconds(record.run.claimed_ns, started_ns);
  doubles[kDecoded][row] = seconds(ends.decoded_ns, started_ns);
  doubles[kEvaluated][row] = seconds(ends.evaluated_ns, started_ns);
  doubles[kEncoded][row] = seconds(ends.encoded_ns, started_ns);
  doubles[kHarvested][row] = seconds(record.harvested_ns, started_ns);
  doubles[kEvaluation][row] = record.run.evaluate_ns < 0 ? NA_REAL : static_cast<double>(record.run.evaluate_ns) / 1e9;
}

char problem[512];

// Rows that were filled, oldest first; *dropped: records that are not in memory any more.
R_xlen_t fill(std::uint32_t id, R_xlen_t room, double* const* doubles, int* const* integers, double* dropped) noexcept {
  R_xlen_t rows = 0;
  problem[0] = '\0';
  with_traced(id, [&](Host&, Profile& profile) {
    const dispatch::Trace& trace = profile.tracing()->trace();
    const std::uint64_t end = std::min(trace.end(), trace.first() + static_cast<std::uint64_t>(room));
    for (std::uint64_t position = trace.first(); position < end; ++position) {
      fill_row(trace[position], trace.started_ns(), rows++, doubles, integers);
    }
    *dropped = static_cast<double>(trace.first());
    std::snprintf(problem, sizeof(problem), "%s", profile.tracing()->complaint().c_str());
  });
  return rows;
}

// NULL: the profile is not traced. Else its columns, the number of records that are not in memory any more, and what is to be
// said about its file ("": nothing).
SEXP profile_trace(SEXP id_) {
  refuse_in_fork();
  const auto id = static_cast<std::uint32_t>(Rf_asInteger(id_));
  const Positions positions = look(id);
  if (!positions.traced) {
    return R_NilValue;
  }
  const auto room = static_cast<R_xlen_t>(positions.end - positions.first);
  SEXP out = PROTECT(Rf_allocVector(VECSXP, kColumns + 2));
  double* doubles[kColumns] = {};
  int* integers[kColumns] = {};
  for (int column = 0; column < kColumns; ++column) {
    const bool is_integer = column == kDaemon || column == kPid || column == kKind || column == kOutcome;
    SEXP vector = SET_VECTOR_ELT(out, column, Rf_allocVector(is_integer ? INTSXP : REALSXP, room));
    if (is_integer) {
      integers[column] = INTEGER(vector);
    } else {
      doubles[column] = REAL(vector);
    }
  }
  double dropped = 0;
  const R_xlen_t rows = fill(id, room, doubles, integers, &dropped);
  for (int column = 0; column < kColumns && rows < room; ++column) {
    SET_VECTOR_ELT(out, column, Rf_xlengthgets(VECTOR_ELT(out, column), rows));
  }
  SET_VECTOR_ELT(out, kColumns, Rf_ScalarReal(dropped));
  SET_VECTOR_ELT(out, kColumns + 1, Rf_mkString(problem));
  UNPROTECT(1);
  return out;
}

// When the session ends: files get what is not in them yet.
SEXP traces_write() {
  if (!Host::forked() && Host::existing() != nullptr) {
    guarded([&] {
      Host& host = *Host::existing();
      std::lock_guard<std::mutex> lock(host.mutex());
      for (std::uint32_t id = 0; id < host.profile_count(); ++id) {
        Profile* profile = host.profile(id);
        if (profile != nullptr && profile->tracing() != nullptr) {
          profile->progress();
          profile->tracing()->write_all();
        }
      }
    });
  }
  return R_NilValue;
}

}  // namespace
}  // namespace setsuna::host

extern const R_CallMethodDef kTraceEntries[] = {
    SETSUNA_ENTRY(profile_trace, setsuna::host::profile_trace, 1),
    SETSUNA_ENTRY(traces_write, setsuna::host::traces_write, 0),
    {nullptr, nullptr, 0},
};
