// What R/dial.R reaches of rbridge/embed/relay_thread.hpp: a daemon whose host is on the network.

#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "glue.hpp"
#include "guard.hpp"
#include "interrupt_watch.hpp"
#include "rbridge/codec/codec.hpp"
#include "rbridge/embed/evaluator.hpp"
#include "rbridge/embed/relay_thread.hpp"
#include "rbridge/embed/scrub.hpp"
#include "runtime/futex.hpp"

namespace {

using setsuna::embed::DialRequest;
using setsuna::embed::Evaluator;
using setsuna::embed::PrivateSegment;
using setsuna::embed::RelayThread;
using setsuna::host::guarded;

// The one attempt or connection of this process. Never destroyed: its thread may run while the process exits.
std::shared_ptr<RelayThread>& current() {
  static auto* the_current = new std::shared_ptr<RelayThread>;
  return *the_current;
}

setsuna::codec::EncodeBuffer buffer;

std::string text(SEXP x) { return TYPEOF(x) == STRSXP && XLENGTH(x) == 1 ? CHAR(STRING_ELT(x, 0)) : ""; }

SEXP relay_scrub() {
  setsuna::embed::scrub_own_command_line();
  return R_NilValue;
}

// Dials. token: text or NULL. trusted: certificates, see net::make_tls_client(). numbers: interrupt the task when the
// connection ends, signal to raise then, size of the data area (0: as much as this process may use). no_room: the task that
// runs instead of one for which there is no memory.
SEXP relay_start(SEXP url, SEXP token, SEXP trusted, SEXP numbers, SEXP no_room) {
  setsuna::codec::encode_reset(&buffer);
  setsuna::codec::encode(no_room, &buffer);
  const bool done = guarded([&] {
    DialRequest request;
    request.url = text(url);
    if (TYPEOF(token) == STRSXP) {
      request.token = text(token);
    }
    request.trusted = text(trusted);
    request.relay.interrupt_at_end = REAL(numbers)[0] != 0;
    request.signal_at_end = static_cast<int>(REAL(numbers)[1]);
    request.data_bytes = static_cast<std::uint64_t>(REAL(numbers)[2]);
    request.relay.no_room_task.resize(buffer.total);
    setsuna::codec::write_encoded(&buffer, request.relay.no_room_task.data());
    current() = RelayThread::start(std::move(request));
  });
  if (!done) {
    Rf_errorcall(R_NilValue, "daemon(): %s", setsuna::host::guard_message);
  }
  return R_NilValue;
}

// Sleeps while the state is this one. May jump (user interrupt).
void wait_while(RelayThread::State state) {
  for (;;) {
    RelayThread* relay = current().get();
    // ORDERING: acquire; pairs with the release of change_state(), which comes after the state.
    const std::uint32_t seen = relay->changes().load(std::memory_order_acquire);
    if (relay->state() != state) {
      return;
    }
    {
      const setsuna::host::InterruptWatch watch(&relay->changes());
      if (!setsuna::host::interrupt_pending()) {
        setsuna::runtime::SharedFutex::wait(&relay->changes(), seen);
      }
    }
    R_CheckUserInterrupt();
  }
}

SEXP failure(const RelayThread& relay) {
  SEXP why = PROTECT(Rf_mkString(relay.failure().c_str()));
  Rf_setAttrib(why, Rf_install("retry"), PROTECT(Rf_ScalarLogical(relay.retry())));
  UNPROTECT(2);
  return why;
}

// Waits until the host has welcomed this daemon: list(link, stream, place, hooks); or until it is clear that it will not: a
// string that says why (with attribute "retry" if it may yet).
SEXP relay_wait() {
  wait_while(RelayThread::State::kDialling);
  RelayThread& relay = *current();
  if (!relay.joined()) {
    return failure(relay);
  }
  int descriptors[3] = {-1, -1, -1};
  const bool done = guarded([&] {
    PrivateSegment::Descriptors copies = relay.segment().descriptors();
    if (!copies) {
      throw std::runtime_error("no descriptors are left for the daemon's memory");
    }
    descriptors[0] = copies.segment.release();
    descriptors[1] = copies.host_page.release();
    descriptors[2] = copies.doorbell.release();
  });
  if (!done) {
    Rf_errorcall(R_NilValue, "daemon(): %s", setsuna::host::guard_message);
  }
  Evaluator::set_exit(&relay.exit());
  const char* names[] = {"link", "stream", "place", "hooks", ""};
  SEXP out = PROTECT(Rf_mkNamed(VECSXP, names));
  SEXP link = SET_VECTOR_ELT(out, 0, Rf_allocVector(INTSXP, 5));
  std::memcpy(INTEGER(link), descriptors, sizeof(descriptors));
  INTEGER(link)[3] = static_cast<int>(PrivateSegment::kDaemon);
  INTEGER(link)[4] = static_cast<int>(relay.segment().epoch());
  SEXP stream = SET_VECTOR_ELT(out, 1, Rf_allocVector(INTSXP, 6));
  std::memcpy(INTEGER(stream), relay.welcome().stream, sizeof(relay.welcome().stream));
  SEXP place = SET_VECTOR_ELT(out, 2, Rf_allocVector(INTSXP, 2));
  INTEGER(place)[0] = relay.welcome().index;
  INTEGER(place)[1] = static_cast<int>(relay.welcome().instance);
  if (!relay.hooks().empty()) {
    const auto* at = reinterpret_cast<const std::uint8_t*>(relay.hooks().data());
    setsuna::codec::Cursor cursor{at, at + relay.hooks().size(), at, nullptr};
    SET_VECTOR_ELT(out, 3, setsuna::codec::decode(&cursor));
  }
  UNPROTECT(1);
  return out;
}

// The evaluator has left: what it has completed is sent, the connection ends. May jump (user interrupt).
SEXP relay_finish() {
  wait_while(RelayThread::State::kJoined);
  return R_NilValue;
}

// Whatever the state, nothing is left afterwards that could act upon this process.
SEXP relay_end() {
  Evaluator::set_exit(nullptr);
  if (current()) {
    current()->give_up();
    current().reset();
  }
  return R_NilValue;
}

}  // namespace

extern const R_CallMethodDef kRelayEntries[] = {
    SETSUNA_ENTRY(relay_scrub, relay_scrub, 0), SETSUNA_ENTRY(relay_start, relay_start, 5),
    SETSUNA_ENTRY(relay_wait, relay_wait, 0),   SETSUNA_ENTRY(relay_finish, relay_finish, 0),
    SETSUNA_ENTRY(relay_end, relay_end, 0),     {nullptr, nullptr, 0},
};
