// The sanitizers' defaults, linked into every test program and helper, so that they hold however it is started.
// Without the sanitizer nobody calls these.

extern "C" {

const char* __asan_default_options();
const char* __ubsan_default_options();
const char* __tsan_default_options();
const char* __tsan_default_suppressions();

const char* __asan_default_options() {
  return "detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1:check_initialization_order=1";
}

const char* __ubsan_default_options() { return "print_stacktrace=1"; }

const char* __tsan_default_options() { return "halt_on_error=1:second_deadlock_stack=1"; }

// One a line, each with the reason why the report is wrong. None so far.
const char* __tsan_default_suppressions() { return ""; }
}
