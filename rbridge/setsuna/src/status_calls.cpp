// What R/status.R reaches: a profile's state at one moment.

#include <cstring>
#include <string>
#include <vector>

#include "glue.hpp"
#include "guard.hpp"
#include "handle.hpp"

namespace setsuna::host {
namespace {

// One daemon, or one seat (who sits there now, or sat there last).
struct Row {
  int online = 0, instance = 0, assigned = 0, complete = 0, pid = 0;
  std::string url;  // empty: no URL of its own
};

// Static: R's jumps pass by no destructor.
struct Snapshot {
  dispatch::Counts counts;
  double used_bytes, budget_bytes, segment_bytes, backed_bytes;
  std::vector<Row> rows;
  std::string backend;
  std::string size_reason;
  std::vector<std::string> events;
  std::string monitor;
  bool found;
} snapshot;

Row daemon_row(Profile& profile, std::uint32_t index) {
  const dispatch::DaemonInfo& daemon = profile.pool().daemons()[index];
  const auto& record = profile.port().daemon(index);
  const bool live = daemon.state == dispatch::DaemonInfo::State::kLive;
  Row row;
  row.online = live ? 1 : 0;
  row.instance = static_cast<int>(daemon.instance);
  row.assigned = static_cast<int>(record.assigned.load(std::memory_order_relaxed));
  row.complete = static_cast<int>(record.completed.load(std::memory_order_relaxed));
  row.pid = live ? static_cast<int>(record.pid.load(std::memory_order_relaxed)) : daemon.pid;
  return row;
}

Row link_row(Profile& profile, std::uint32_t index) {
  const dispatch::LinkInfo& link = profile.pool().links()[index];
  Row row;
  row.online = link.state == dispatch::LinkInfo::State::kVacant ? 0 : 1;
  row.instance = 1;
  row.assigned = static_cast<int>(link.assigned);
  row.complete = static_cast<int>(link.completed);
  row.pid = link.pid;
  return row;
}

Row seat_row(Profile& profile, const Seat& seat) {
  Row row;
  if (seat.occupant == Seat::Occupant::kDaemon) {
    row = daemon_row(profile, seat.index);
  } else if (seat.occupant == Seat::Occupant::kLink && seat.index != dispatch::kNoLink) {
    row = link_row(profile, seat.index);
  } else {
    row.assigned = static_cast<int>(seat.assigned);
    row.complete = static_cast<int>(seat.completed);
  }
  row.instance = static_cast<int>(seat.instance);
  row.url = seat.text;
  return row;
}

// Seats first, then who has none.
std::vector<Row> rows_of(Profile& profile) {
  std::vector<Row> rows;
  const Seats& seats = profile.seats;
  for (std::uint32_t i = 0; !seats.shared() && i < seats.count(); ++i) {
    rows.push_back(seat_row(profile, seats[i]));
  }
  for (std::uint32_t i = 0; i < profile.pool().daemons().size(); ++i) {
    const bool seated = seats.seat_of(Seat::Occupant::kDaemon, i) != kNoSeat;
    const bool gone = profile.pool().daemons()[i].state == dispatch::DaemonInfo::State::kDead;
    if (!seated && (seats.shared() || !gone)) {
      rows.push_back(daemon_row(profile, i));
    }
  }
  for (std::uint32_t i = 0; seats.shared() && i < profile.pool().links().size(); ++i) {
    if (profile.pool().links()[i].state != dispatch::LinkInfo::State::kVacant) {
      rows.push_back(link_row(profile, i));
    }
  }
  return rows;
}

void take_snapshot(std::uint32_t id) noexcept {
  snapshot.found = false;
  guarded([&] {
    Host* host = Host::existing();
    std::lock_guard<std::mutex> lock(host->mutex());
    Profile* profile = host->profile(id);
    if (profile == nullptr) {
      return;
    }
    profile->progress();
    host->settle(*profile);
    snapshot.found = true;
    snapshot.counts = profile->pool().counts(profile->executing());
    snapshot.used_bytes = static_cast<double>(profile->pool().used_bytes());
    snapshot.budget_bytes = static_cast<double>(profile->pool().config().budget_bytes);
    const runtime::ArenaUse use = profile->arena().use();
    snapshot.segment_bytes = static_cast<double>(use.segment_total);
    snapshot.backed_bytes = static_cast<double>(use.segment_backed);
    snapshot.backend = host->backend();
    snapshot.monitor = host->monitor_state();
    snapshot.size_reason = profile->segment().size_reason();
    snapshot.rows = rows_of(*profile);
    snapshot.events.assign(profile->events().begin(), profile->events().end());
  });
}

SEXP real_vector(const double* values, int n) {
  SEXP out = Rf_allocVector(REALSXP, n);
  std::memcpy(REAL(out), values, static_cast<std::size_t>(n) * sizeof(double));
  return out;
}

SEXP row_matrix() {
  const int n = static_cast<int>(snapshot.rows.size());
  SEXP matrix = PROTECT(Rf_allocMatrix(INTSXP, n, 5));
  for (int i = 0; i < n; ++i) {
    const Row& row = snapshot.rows[static_cast<std::size_t>(i)];
    const int values[] = {row.online, row.instance, row.assigned, row.complete, row.pid};
    for (int j = 0; j < 5; ++j) {
      INTEGER(matrix)[i + j * n] = values[j];
    }
  }
  UNPROTECT(1);
  return matrix;
}

SEXP text_vector(const std::vector<std::string>& texts) {
  SEXP out = PROTECT(Rf_allocVector(STRSXP, static_cast<R_xlen_t>(texts.size())));
  for (std::size_t i = 0; i < texts.size(); ++i) {
    SET_STRING_ELT(out, static_cast<R_xlen_t>(i), Rf_mkChar(texts[i].c_str()));
  }
  UNPROTECT(1);
  return out;
}

SEXP row_urls() {
  SEXP urls = PROTECT(Rf_allocVector(STRSXP, static_cast<R_xlen_t>(snapshot.rows.size())));
  for (std::size_t i = 0; i < snapshot.rows.size(); ++i) {
    SET_STRING_ELT(urls, static_cast<R_xlen_t>(i), Rf_mkChar(snapshot.rows[i].url.c_str()));
  }
  UNPROTECT(1);
  return urls;
}

// list(counts = c(connections, cumulative, awaiting, executing, completed), daemons = matrix, memory, backend, reason,
// urls = text for each row, "" for those without one of their own, events = what happened to connections,
// monitor = may others look)
SEXP profile_status(SEXP id) {
  refuse_in_fork();
  drain_dropped();
  take_snapshot(static_cast<std::uint32_t>(Rf_asInteger(id)));
  if (!snapshot.found) {
    return R_NilValue;
  }
  const dispatch::Counts& c = snapshot.counts;
  const double counts[] = {static_cast<double>(c.connections), static_cast<double>(c.cumulative),
                           static_cast<double>(c.awaiting), static_cast<double>(c.executing),
                           static_cast<double>(c.completed)};
  const double memory[] = {snapshot.used_bytes, snapshot.budget_bytes, snapshot.backed_bytes, snapshot.segment_bytes};
  SEXP out = PROTECT(Rf_allocVector(VECSXP, 8));
  SET_VECTOR_ELT(out, 0, real_vector(counts, 5));
  SET_VECTOR_ELT(out, 1, row_matrix());
  SET_VECTOR_ELT(out, 2, real_vector(memory, 4));
  SET_VECTOR_ELT(out, 3, Rf_mkString(snapshot.backend.c_str()));
  SET_VECTOR_ELT(out, 4, Rf_mkString(snapshot.size_reason.c_str()));
  SET_VECTOR_ELT(out, 5, row_urls());
  SET_VECTOR_ELT(out, 6, text_vector(snapshot.events));
  SET_VECTOR_ELT(out, 7, Rf_mkString(snapshot.monitor.c_str()));
  UNPROTECT(1);
  return out;
}

// The URLs at which the profile listens, with the ports that were taken.
SEXP profile_urls(SEXP id) {
  static std::vector<std::string> urls;
  urls.clear();
  guarded([&] {
    Host* host = Host::existing();
    std::lock_guard<std::mutex> lock(host->mutex());
    if (Profile* profile = host->profile(static_cast<std::uint32_t>(Rf_asInteger(id)))) {
      for (std::uint32_t i = 0; i < profile->seats.count(); ++i) {
        urls.push_back(profile->seats[i].text);
      }
    }
  });
  return text_vector(urls);
}

}  // namespace
}  // namespace setsuna::host

extern const R_CallMethodDef kStatusEntries[] = {
    SETSUNA_ENTRY(profile_status, setsuna::host::profile_status, 1),
    SETSUNA_ENTRY(profile_urls, setsuna::host::profile_urls, 1),
    {nullptr, nullptr, 0},
};
