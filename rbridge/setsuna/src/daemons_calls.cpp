// What R/daemons.R reaches: making and ending profiles, their state, everywhere().

#include <unistd.h>

#include <cstring>
#include <memory>
#include <vector>

#include "dispatch/link_wire.hpp"
#include "glue.hpp"
#include "guard.hpp"
#include "handle.hpp"
#include "listen.hpp"
#include "profile_codec.hpp"
#include "profiles_state.hpp"
#include "rbridge/codec/codec.hpp"
#include "rbridge/embed/zygote_client.hpp"
#include "runtime/sysmem.hpp"
#include "task_encoding.hpp"
#include "wait.hpp"

namespace setsuna::host {
namespace {

SEXP option(SEXP options, const char* name) {
  SEXP names = Rf_getAttrib(options, R_NamesSymbol);
  for (R_xlen_t i = 0; i < Rf_xlength(options); ++i) {
    if (std::strcmp(CHAR(STRING_ELT(names, i)), name) == 0) {
      return VECTOR_ELT(options, i);
    }
  }
  return R_NilValue;
}

double number(SEXP options, const char* name, double otherwise) {
  SEXP value = option(options, name);
  return value == R_NilValue ? otherwise : Rf_asReal(value);
}

bool flag(SEXP options, const char* name, bool otherwise) {
  SEXP value = option(options, name);
  return value == R_NilValue ? otherwise : Rf_asLogical(value) == TRUE;
}

std::string text(SEXP options, const char* name) {
  SEXP value = option(options, name);
  return TYPEOF(value) == STRSXP && XLENGTH(value) == 1 ? CHAR(STRING_ELT(value, 0)) : "";
}

runtime::UniqueFd config_fd_from(SEXP options) {
  SEXP bytes = option(options, "config");
  runtime::UniqueFd fd = embed::config_memfd(RAW(bytes), static_cast<std::size_t>(XLENGTH(bytes)));
  if (!fd) {
    throw std::runtime_error(std::string("the daemons' configuration cannot be stored: ") + std::strerror(errno));
  }
  return fd;
}

// Complete and checked: `.knobs_in_force()` (knobs.R). Words are numbers, their places among the choices.
Knobs knobs_from(SEXP values) {
  Knobs knobs;
  const auto count = [&](const char* name) { return static_cast<std::uint32_t>(number(values, name, 0)); };
  knobs.spin_us = count("spin");
  knobs.wake_batch = count("wake_batch");
  knobs.slots = count("slots");
  knobs.inline_bytes = count("inline_bytes");
  knobs.prefetch = count("prefetch");
  knobs.portable = count("codec") == 1;
  knobs.arena_bytes = static_cast<std::uint64_t>(number(values, "arena", 0) * kMegabyte);
  knobs.growth_extents = count("growth");
  return knobs;
}

// The parts of `.profile_options()` (daemons.R). Reads R objects, jumps nowhere: its values were checked in R.
ProfileConfig config_from(SEXP options) {
  ProfileConfig config;
  config.name = text(options, "name");
  config.zygote_key = text(options, "zygote_key");
  config.output = flag(options, "output", false);
  config.autoexit = static_cast<std::int32_t>(number(options, "autoexit", 0));
  config.knobs = knobs_from(option(options, "knobs"));
  config.pool.wake_batch = config.knobs.wake_batch;
  config.pool.dispatcher = flag(options, "dispatcher", true);
  config.pool.link_begun_most = dispatch::kLinkBegunMost;
  config.pool.ephemeral = flag(options, "ephemeral", false);
  config.pool.respawn = flag(options, "respawn", true);
  config.pool.seeded = flag(options, "seeded", false);
  if (SEXP stream = option(options, "stream"); TYPEOF(stream) == INTSXP && XLENGTH(stream) == 6) {
    std::memcpy(config.pool.stream.data(), INTEGER(stream), sizeof(config.pool.stream));
  }
  config.base_stream = config.pool.stream;
  SEXP urls = option(options, "urls");
  for (R_xlen_t i = 0; i < Rf_xlength(urls); ++i) {
    config.urls.emplace_back(CHAR(STRING_ELT(urls, i)));
  }
  config.shared_url = flag(options, "shared", true);
  const double memory_mb = number(options, "memory", -1);
  config.pool.budget_bytes =
      memory_mb >= 0 ? static_cast<std::uint64_t>(memory_mb * 1e6) : runtime::memory_ceiling().bytes / 2;
  config.config_fd = config_fd_from(options);
  config.trace = flag(options, "traced", false);
  config.trace_path = text(options, "trace_path");
  return config;
}

Access access_from(SEXP options) {
  SEXP given = option(options, "access");
  Access access;
  access.token = text(given, "token");
  access.has_pass = option(given, "pass") != R_NilValue;
  access.pass = text(given, "pass");
  if (SEXP tls = option(given, "tls"); TYPEOF(tls) == STRSXP && XLENGTH(tls) == 2) {
    access.certificate = CHAR(STRING_ELT(tls, 0));
    access.key = CHAR(STRING_ELT(tls, 1));
  }
  return access;
}

embed::ZygoteSpawn spawn_from(SEXP options) {
  embed::ZygoteSpawn spawn;
  spawn.program = text(options, "program");
  spawn.library = text(options, "library");
  SEXP preload = option(options, "preload");
  for (R_xlen_t i = 0; i < Rf_xlength(preload); ++i) {
    spawn.preload.emplace_back(CHAR(STRING_ELT(preload, i)));
  }
  return spawn;
}

// Pools of fresh processes that were replaced (the session's configuration changed) while tasks ran in them.
std::vector<std::uint32_t> replaced;

void close_idle_replaced(Host& host) {
  std::lock_guard<std::mutex> lock(host.mutex());
  std::erase_if(replaced, [&](std::uint32_t id) {
    Profile* profile = host.profile(id);
    if (profile != nullptr && !profile->pool().closed()) {
      profile->progress();
      if (profile->pool().unfinished() > 0) {
        return false;
      }
      host.close_profile(*profile, false);
    }
    return true;
  });
}

void close_id(Host& host, std::uint32_t id, bool kill_busy) {
  std::lock_guard<std::mutex> lock(host.mutex());
  if (Profile* profile = host.profile(id)) {
    host.close_profile(*profile, kill_busy);
  }
}

// The profile that the new one replaces.
void close_current(SEXP options) {
  const bool ephemeral = flag(options, "ephemeral", false);
  if (!guarded([&] {
        const std::uint32_t current = ephemeral ? *ephemeral_slot() : current_profile(text(options, "name").c_str());
        if (current == kNoProfile) {
          return;
        }
        Host& host = Host::get();
        if (ephemeral) {
          replaced.push_back(current);
          close_idle_replaced(host);
        } else {
          close_id(host, current, true);
          set_current_profile(text(options, "name").c_str(), kNoProfile);
        }
      })) {
    Rf_error("%s", guard_message);
  }
}

// The profile's serialisation hooks as bytes, for daemons that dial in. Null: none.
codec::EncodeBuffer* encode_hooks(SEXP hooks) {
  static codec::EncodeBuffer buffer;
  if (hooks == R_NilValue) {
    return nullptr;
  }
  codec::encode_reset(&buffer);
  codec::encode(hooks, &buffer, nullptr);
  return &buffer;
}

// Makes the profile and asks for `n` daemons. The old one of that name is closed first.
SEXP profile_open(SEXP options, SEXP n) {
  refuse_in_fork();
  drain_dropped();
  const int count = Rf_asInteger(n);
  close_current(options);
  while (flag(options, "given_url", false) && sleep_for_listeners()) {
    R_CheckUserInterrupt();  // the port may be the old one's. A futex sleep, which the reactor ends when it is closed
  }
  std::uint32_t made = kNoProfile;
  codec::EncodeBuffer* hooks = encode_hooks(option(options, "serial"));
  const bool done = guarded([&] {
    Host& host = Host::get();
    ProfileConfig config = config_from(options);
    if (hooks != nullptr) {
      config.hooks.resize(hooks->total);
      codec::write_encoded(hooks, config.hooks.data());
    }
    const std::string name = config.name;
    const bool ephemeral = config.pool.ephemeral;
    host.ensure_zygote(config.zygote_key, spawn_from(options));
    Opened opened = open_listeners(config.urls, access_from(options));
    const bool shared = config.shared_url;
    std::lock_guard<std::mutex> lock(host.mutex());
    Profile& profile = host.add_profile(std::move(config));
    profile.seats.open(std::move(opened.urls), shared);
    profile.local_listeners = std::move(opened.local);
    profile.doors = std::move(opened.doors);
    made = profile.id();
    for (int i = 0; i < count; ++i) {
      std::uint32_t epoch = 0;
      profile.pool().add_daemon(false, &epoch);
    }
    host.settle(profile);
    if (ephemeral) {
      *ephemeral_slot() = made;
    } else {
      set_current_profile(name.c_str(), made);
    }
  });
  if (!done) {
    Rf_error("%s", guard_message);
  }
  const Knobs knobs = knobs_from(option(options, "knobs"));
  set_profile_encoding(made, option(options, "serial"), knobs.portable, knobs.inline_bytes);
  return Rf_ScalarInteger(static_cast<int>(made));
}

// `n` more daemons, started with the config, output and autoexit of `options`. Their indices from 1.
SEXP profile_add_daemons(SEXP id, SEXP n, SEXP options) {
  refuse_in_fork();
  const int wanted = Rf_asInteger(n);
  SEXP out = PROTECT(Rf_allocVector(INTSXP, wanted));
  int added = 0;
  const bool done = guarded([&] {
    const auto start =
        std::make_shared<DaemonStart>(DaemonStart{config_fd_from(options), flag(options, "output", false),
                                                  static_cast<std::int32_t>(number(options, "autoexit", 0))});
    Host& host = Host::get();
    std::lock_guard<std::mutex> lock(host.mutex());
    Profile* profile = host.profile(static_cast<std::uint32_t>(Rf_asInteger(id)));
    while (profile != nullptr && added < wanted) {
      std::uint32_t epoch = 0;
      const std::uint32_t index = profile->pool().add_daemon(false, &epoch);
      if (index == runtime::kNoSlot) {
        break;
      }
      profile->process(index).start = start;
      profile->seat_daemon(index);
      INTEGER(out)[added++] = static_cast<int>(index) + 1;
    }
    if (profile != nullptr) {
      host.settle(*profile);
    }
  });
  if (!done) {
    Rf_error("%s", guard_message);
  }
  out = Rf_lengthgets(out, added);
  UNPROTECT(1);
  return out;
}

// Ends the process of daemon `index` (from 1). TRUE if there was one.
SEXP daemon_kill(SEXP id, SEXP index) {
  refuse_in_fork();
  bool killed = false;
  guarded([&] {
    Host& host = Host::get();
    std::lock_guard<std::mutex> lock(host.mutex());
    Profile* profile = host.profile(static_cast<std::uint32_t>(Rf_asInteger(id)));
    const auto at = static_cast<std::uint32_t>(Rf_asInteger(index) - 1);
    if (profile != nullptr && at < profile->process_count() && profile->process(at).pidfd) {
      profile->kill(at);
      killed = true;
    }
  });
  return Rf_ScalarLogical(killed);
}

// Seat `seat` (from 1) gets another URL; who sits there is ended. `options`: its `access`, as for profile_open. The URL with
// the port that was taken.
SEXP profile_move_seat(SEXP id, SEXP seat, SEXP url, SEXP options) {
  refuse_in_fork();
  static std::string text;
  const bool done = guarded([&] {
    Opened opened = open_listeners({CHAR(STRING_ELT(url, 0))}, access_from(options));
    Host& host = *Host::existing();
    std::lock_guard<std::mutex> lock(host.mutex());
    Profile* profile = host.profile(static_cast<std::uint32_t>(Rf_asInteger(id)));
    host.move_seat(*profile, static_cast<std::uint32_t>(Rf_asInteger(seat) - 1), std::move(opened));
    text = profile->seats[static_cast<std::uint32_t>(Rf_asInteger(seat) - 1)].text;
  });
  if (!done) {
    Rf_error("%s", guard_message);
  }
  return Rf_mkString(text.c_str());
}

struct Progress {
  std::uint32_t arrived = 0;  // were online, even if they have left again
  bool failed = false;
};

Progress look(std::uint32_t id, std::uint32_t wanted) noexcept {
  Progress progress;
  guarded([&] {
    Host& host = *Host::existing();
    std::lock_guard<std::mutex> lock(host.mutex());
    Profile* profile = host.profile(id);
    if (profile == nullptr) {
      progress.failed = true;
      return;
    }
    profile->sync_online();
    std::uint32_t coming = 0;
    for (const dispatch::DaemonInfo& daemon : profile->pool().daemons()) {
      progress.arrived += daemon.instance > 0 ? 1 : 0;
      coming += daemon.instance == 0 && daemon.state == dispatch::DaemonInfo::State::kStarting ? 1 : 0;
    }
    progress.failed = progress.arrived + coming < wanted;
    if (progress.failed) {
      std::snprintf(guard_message, sizeof(guard_message), "%s", profile->failure.c_str());
    }
  });
  return progress;
}

// Waits until `n` daemons are online. Character: why they cannot start; NULL: all are there.
SEXP profile_wait_online(SEXP id_, SEXP n) {
  refuse_in_fork();
  const auto id = static_cast<std::uint32_t>(Rf_asInteger(id_));
  const auto wanted = static_cast<std::uint32_t>(Rf_asInteger(n));
  for (;;) {
    const std::uint32_t ticket = sleep_ticket();
    const Progress progress = look(id, wanted);
    if (progress.arrived >= wanted) {
      return R_NilValue;
    }
    if (progress.failed) {
      return Rf_mkString(guard_message);
    }
    sleep_for_profile(id, ticket);  // on a futex, which an arrival wakes
    R_CheckUserInterrupt();
  }
}

// How the daemons with these indices (from 1) are: all started, or why they will not.
Progress look_at_started(std::uint32_t id, const int* indices, int count) noexcept {
  Progress progress = look(id, 0);
  progress.arrived = 0;
  guarded([&] {
    Host& host = *Host::existing();
    std::lock_guard<std::mutex> lock(host.mutex());
    Profile* profile = host.profile(id);
    if (profile == nullptr || profile->pool().gave_up()) {
      progress.failed = true;
      std::snprintf(guard_message, sizeof(guard_message), "%s", profile == nullptr ? "" : profile->failure.c_str());
    }
    for (int i = 0; profile != nullptr && i < count; ++i) {
      const auto state = profile->pool().daemons()[static_cast<std::size_t>(indices[i] - 1)].state;
      progress.arrived += state != dispatch::DaemonInfo::State::kStarting ? 1 : 0;
    }
  });
  return progress;
}

SEXP daemons_wait_started(SEXP id_, SEXP indices) {
  refuse_in_fork();
  const auto id = static_cast<std::uint32_t>(Rf_asInteger(id_));
  const int count = Rf_length(indices);
  for (;;) {
    const std::uint32_t ticket = sleep_ticket();
    const Progress progress = look_at_started(id, INTEGER(indices), count);
    if (progress.failed) {
      return Rf_mkString(guard_message);
    }
    if (progress.arrived >= static_cast<std::uint32_t>(count)) {
      return R_NilValue;
    }
    sleep_for_profile(id, ticket);
    R_CheckUserInterrupt();
  }
}

// Waits until `n` daemons are online at a time, wherever they come from: everywhere(.min = ).
SEXP profile_wait_min(SEXP id_, SEXP n) {
  refuse_in_fork();
  const auto id = static_cast<std::uint32_t>(Rf_asInteger(id_));
  const auto wanted = static_cast<std::uint32_t>(Rf_asInteger(n));
  for (;;) {
    const std::uint32_t ticket = sleep_ticket();
    bool enough = false;
    bool failed = true;
    guarded([&] {
      Host& host = *Host::existing();
      std::lock_guard<std::mutex> lock(host.mutex());
      Profile* profile = host.profile(id);
      if (profile != nullptr && !profile->pool().closed()) {
        profile->sync_online();
        enough = profile->pool().online() >= wanted;
        failed = profile->pool().gave_up();
      }
    });
    if (enough) {
      return R_NilValue;
    }
    if (failed) {
      return Rf_mkString("their processes end at once");
    }
    sleep_for_profile(id, ticket);
    R_CheckUserInterrupt();
  }
}

// TRUE if there was something to close. `persistent`: daemons that would wait for another host end as well.
SEXP profile_close(SEXP compute, SEXP kill_busy, SEXP persistent) {
  refuse_in_fork();
  drain_dropped();
  const char* name = profile_name(compute);
  const std::uint32_t id = current_profile(name);
  if (id == kNoProfile) {
    return Rf_ScalarLogical(FALSE);
  }
  guard_message[0] = '\0';
  const bool done = guarded([&] {
    Host& host = Host::get();
    if (Rf_asLogical(persistent) == TRUE) {
      std::lock_guard<std::mutex> lock(host.mutex());
      if (Profile* profile = host.profile(id)) {
        profile->end_persistent();
      }
    }
    close_id(host, id, Rf_asLogical(kill_busy) == TRUE);
    std::lock_guard<std::mutex> lock(host.mutex());
    if (Profile* profile = host.profile(id); profile != nullptr && profile->tracing() != nullptr) {
      std::snprintf(guard_message, sizeof(guard_message), "%s", profile->tracing()->complaint().c_str());
    }
  });
  set_current_profile(name, kNoProfile);
  if (!done) {
    Rf_error("%s", guard_message);
  }
  if (guard_message[0] != '\0') {
    Rf_warning("%s", guard_message);
  }
  return Rf_ScalarLogical(TRUE);
}

SEXP profile_id(SEXP compute) {
  const std::uint32_t id = current_profile(profile_name(compute));
  return id == kNoProfile ? R_NilValue : Rf_ScalarInteger(static_cast<int>(id));
}

SEXP ephemeral_id() {
  refuse_in_fork();
  const std::uint32_t id = *ephemeral_slot();
  bool hopeless = false;
  guarded([&] {
    if (Host* host = Host::existing(); host != nullptr && id != kNoProfile) {
      std::lock_guard<std::mutex> lock(host->mutex());
      Profile* profile = host->profile(id);
      hopeless = profile == nullptr || profile->pool().gave_up();
    }
  });
  return id == kNoProfile || hopeless ? R_NilValue : Rf_ScalarInteger(static_cast<int>(id));
}

SEXP profile_set_sync(SEXP compute, SEXP sync) {
  set_sync_profile(profile_name(compute), Rf_asLogical(sync) == TRUE);
  return R_NilValue;
}

SEXP profile_is_sync(SEXP compute) { return Rf_ScalarLogical(is_sync_profile(profile_name(compute))); }

// --- Random numbers ----------------------------------------------------------------------------------------

SEXP profile_next_stream(SEXP id) {
  refuse_in_fork();
  dispatch::StreamState state{};
  guarded([&] {
    Host& host = *Host::existing();
    std::lock_guard<std::mutex> lock(host.mutex());
    state = host.profile(static_cast<std::uint32_t>(Rf_asInteger(id)))->pool().take_stream();
  });
  SEXP out = Rf_allocVector(INTSXP, 7);
  INTEGER(out)[0] = 10407;
  std::memcpy(INTEGER(out) + 1, state.data(), sizeof(state));
  return out;
}

SEXP seed_stream(SEXP seed) {
  const dispatch::StreamState state = dispatch::stream_from_seed(Rf_asInteger(seed));
  SEXP out = Rf_allocVector(INTSXP, 6);
  std::memcpy(INTEGER(out), state.data(), sizeof(state));
  return out;
}

// --- everywhere() ------------------------------------------------------------------------------------------

// Sends the expression to each daemon and into the log for later ones. A list of mirai.
SEXP profile_everywhere(SEXP expr, SEXP env, SEXP id_) {
  refuse_in_fork();
  drain_dropped();
  const auto id = static_cast<std::uint32_t>(Rf_asInteger(id_));
  SEXP keep = PROTECT(Rf_allocVector(VECSXP, 3));
  codec::EncodeBuffer* buffer = encode_everywhere(expr, env, id, keep);
  static std::vector<std::uint32_t> targets;  // static: passed by R's jumps
  targets.clear();
  const bool done = guarded([&] {
    std::vector<std::uint8_t> bytes(buffer->total);
    codec::write_encoded(buffer, bytes.data());
    Host& host = *Host::existing();
    std::lock_guard<std::mutex> lock(host.mutex());
    Profile* profile = host.profile(id);
    profile->progress();
    const auto& daemons = profile->pool().daemons();
    for (std::uint32_t i = 0; i < daemons.size(); ++i) {
      const auto state = daemons[i].state;
      if (state == dispatch::DaemonInfo::State::kLive || state == dispatch::DaemonInfo::State::kStarting) {
        targets.push_back(i);
      }
    }
    const auto& links = profile->pool().links();
    for (std::uint32_t i = 0; i < links.size(); ++i) {
      if (links[i].state == dispatch::LinkInfo::State::kOnline) {
        targets.push_back(dispatch::kLinkQueueBase + i);
      }
    }
    profile->pool().log_everywhere(bytes.data(), bytes.size());
  });
  if (!done) {
    Rf_error("%s", guard_message);
  }
  const auto count = static_cast<R_xlen_t>(targets.size());
  SEXP out = PROTECT(Rf_allocVector(VECSXP, count));
  for (R_xlen_t i = 0; i < count; ++i) {
    SET_VECTOR_ELT(out, i, submit_everywhere(id, targets[static_cast<std::size_t>(i)]));
  }
  UNPROTECT(2);
  return out;
}

SEXP threaded_packages(SEXP key) {
  static char names[1024];
  names[0] = '\0';
  guarded([&] {
    std::snprintf(names, sizeof(names), "%s", Host::get().threaded_packages(CHAR(STRING_ELT(key, 0))).c_str());
  });
  return Rf_mkString(names);
}

SEXP host_backend() {
  Host* host = Host::existing();
  return host == nullptr ? R_NilValue : Rf_mkString(host->backend().c_str());
}

}  // namespace
}  // namespace setsuna::host

#define ENTRY(name, args) SETSUNA_ENTRY(name, setsuna::host::name, args)
extern const R_CallMethodDef kDaemonEntries[] = {
    ENTRY(profile_open, 2),         ENTRY(profile_add_daemons, 3), ENTRY(profile_wait_online, 2),
    ENTRY(profile_close, 3),        ENTRY(profile_id, 1),          ENTRY(ephemeral_id, 0),
    ENTRY(profile_set_sync, 2),     ENTRY(profile_is_sync, 1),     ENTRY(profile_next_stream, 1),
    ENTRY(seed_stream, 1),          ENTRY(profile_everywhere, 3),  ENTRY(profile_wait_min, 2),
    ENTRY(daemons_wait_started, 2), ENTRY(daemon_kill, 2),         ENTRY(profile_move_seat, 3),
    ENTRY(threaded_packages, 1),    ENTRY(host_backend, 0),        {nullptr, nullptr, 0},
};
