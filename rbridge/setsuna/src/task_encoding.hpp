// What the glue of mirai(), mirai_map() and everywhere() shares: values encoded for daemons, and their way into the queue. R
// thread; may long-jump.
#pragma once

#include <cstddef>
#include <cstdint>

#include "rbridge/codec/codec.hpp"
#include "submit.hpp"

namespace setsuna::host {

// What is to be sent next. The bytes of large vectors stay where they are until then.
extern codec::EncodeBuffer task_buffer;

// What stands in an error message for a value of the wrong kind.
const char* describe(SEXP value, char* to, std::size_t size);
// When the session begins with a task, for a trace of it.
std::uint64_t begin_task();
// Into task_buffer, behind `head_bytes` bytes at `head`.
void encode_value(SEXP value, std::uint32_t profile, const void* head, std::size_t head_bytes);
// list(expression, globals, locals), into task_buffer.
void encode_task(SEXP expr, SEXP globals, SEXP locals, std::uint32_t profile);
// That of .compute in the calling function's frame.
std::uint32_t profile_for(SEXP env);
// The current one of that name; without daemons, where each task has a process of its own.
std::uint32_t profile_of(const char* name);
// Queues what is in task_buffer; waits while the budget is full, unless `wait` is false (then NULL).
SEXP submit_buffer(std::uint32_t profile, const dispatch::SubmitSpec& spec, bool wait);

// everywhere(). `keep`, a list of 3, holds the vectors whose bytes the buffer refers to.
codec::EncodeBuffer* encode_everywhere(SEXP expr, SEXP env, std::uint32_t profile, SEXP keep);
SEXP submit_everywhere(std::uint32_t profile, std::uint32_t daemon);

}  // namespace setsuna::host
