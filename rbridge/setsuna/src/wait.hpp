// Waiting for tasks on the host's futex: woken by the completion that is waited for, by the reactor, or by Ctrl-C.
#pragma once

#include "glue.hpp"
#include "handle.hpp"

namespace setsuna::host {

// True once the task is resolved; harvests first if need be. Never calls R.
bool task_resolved(TaskRef ref) noexcept;
// Sleeps until something may have changed for the tasks: `one` of them if count is 1, else as `any` says. Call it when
// task_resolved() said no, then R_CheckUserInterrupt(), then look again. Never calls R.
void sleep_for_tasks(const TaskRef* refs, int count, bool any) noexcept;
// Taken before a look at what is waited for: what changes after it ends the sleep.
std::uint32_t sleep_ticket() noexcept;
// Sleeps until something may have changed for this profile (budget, daemons) since the ticket.
void sleep_for_profile(std::uint32_t profile, std::uint32_t ticket) noexcept;
// Sleeps while the URL of a profile that was closed is not free yet. True: look again. Never calls R.
bool sleep_for_listeners() noexcept;
// Waits until the mirai is resolved. May jump (user interrupt).
void wait_for_handle(SEXP handle);
// Puts the values of the list's mirai from `from` on into `out`, waiting for the first. The position behind. May jump.
R_xlen_t collect_some(SEXP list, R_xlen_t from, SEXP out);
// The value, decoded and cached; unresolved_value() while there is none. May jump.
SEXP value_of(SEXP handle);
// The same, once it is there. May jump (user interrupt).
SEXP awaited_value(SEXP handle);

}  // namespace setsuna::host
