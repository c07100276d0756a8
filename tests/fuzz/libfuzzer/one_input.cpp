// What libFuzzer calls. SETSUNA_FUZZ_TARGET names the target (tools/fuzz).
#include <cstddef>
#include <cstdint>

#include "tests/fuzz/targets.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  setsuna::fuzz::SETSUNA_FUZZ_TARGET({data, size});
  return 0;
}
