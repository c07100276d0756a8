#include "dispatch/rng_stream.hpp"

namespace setsuna::dispatch {
namespace {

constexpr std::uint64_t kM1 = 4294967087ULL;
constexpr std::uint64_t kM2 = 4294944443ULL;

using Matrix = std::array<std::array<std::uint64_t, 3>, 3>;

constexpr Matrix multiply(const Matrix& a, const Matrix& b, std::uint64_t modulus) {
  Matrix product{};
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t j = 0; j < 3; ++j) {
      std::uint64_t sum = 0;
      for (std::size_t k = 0; k < 3; ++k) {
        sum = (sum + a[i][k] * b[k][j] % modulus) % modulus;  // entries < 2^32: each product fits 64 bits
      }
      product[i][j] = sum;
    }
  }
  return product;
}

// a^(2^exponent) mod modulus by repeated squaring: the tables of the paper, derived instead of typed in.
constexpr Matrix power_of_two(Matrix a, int exponent, std::uint64_t modulus) {
  for (int i = 0; i < exponent; ++i) {
    a = multiply(a, a, modulus);
  }
  return a;
}

// One step of each component: x[n] = a x[n-2] - b x[n-3] (mod m1), y[n] = c y[n-1] - d y[n-3] (mod m2).
constexpr Matrix kStep1 = {{{0, 1, 0}, {0, 0, 1}, {kM1 - 810728, 1403580, 0}}};
constexpr Matrix kStep2 = {{{0, 1, 0}, {0, 0, 1}, {kM2 - 1370589, 0, 527612}}};

const Matrix kStreamJump1 = power_of_two(kStep1, 127, kM1);
const Matrix kStreamJump2 = power_of_two(kStep2, 127, kM2);
const Matrix kSubstreamJump1 = power_of_two(kStep1, 76, kM1);
const Matrix kSubstreamJump2 = power_of_two(kStep2, 76, kM2);

void apply(const Matrix& a, const std::int32_t* in, std::int32_t* out, std::uint64_t modulus) {
  for (std::size_t i = 0; i < 3; ++i) {
    std::uint64_t sum = 0;
    for (std::size_t j = 0; j < 3; ++j) {
      sum = (sum + a[i][j] * static_cast<std::uint32_t>(in[j]) % modulus) % modulus;
    }
    out[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(sum));
  }
}

StreamState jump(const StreamState& state, const Matrix& first, const Matrix& second) {
  StreamState next{};
  apply(first, state.data(), next.data(), kM1);
  apply(second, state.data() + 3, next.data() + 3, kM2);
  return next;
}

}  // namespace

StreamState stream_from_seed(std::int32_t seed) {
  // R scrambles the seed with 50 steps of a congruential generator, then draws each word below m2 (R's RNG.c documents
  // the rule under ?set.seed: "Initial scrambling").
  auto x = static_cast<std::uint32_t>(seed);
  for (int i = 0; i < 50; ++i) {
    x = 69069U * x + 1U;
  }
  StreamState state{};
  for (std::int32_t& word : state) {
    x = 69069U * x + 1U;
    while (x >= kM2) {
      x = 69069U * x + 1U;
    }
    word = static_cast<std::int32_t>(x);
  }
  return state;
}

StreamState next_stream(const StreamState& state) { return jump(state, kStreamJump1, kStreamJump2); }

StreamState next_substream(const StreamState& state) { return jump(state, kSubstreamJump1, kSubstreamJump2); }

}  // namespace setsuna::dispatch
