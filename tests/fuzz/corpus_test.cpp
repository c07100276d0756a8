// A short run of each fuzz target, the same every time: the corpus and damaged copies of it. For a long one: tools/fuzz.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "tests/fuzz/targets.hpp"

namespace setsuna::fuzz {
namespace {

using Bytes = std::vector<std::uint8_t>;

std::vector<Bytes> corpus(const std::string& target) {
  const auto folder = std::filesystem::path(SETSUNA_TEST_SOURCES) / "corpus" / target;
  std::vector<Bytes> out;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream file(entry.path(), std::ios::binary);
    out.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  std::sort(out.begin(), out.end());
  return out;
}

// One to four edits: a byte changed, put in, taken out, or a part repeated.
void damage(Bytes& bytes, std::mt19937& random) {
  for (std::uint32_t edits = 1 + random() % 4; edits > 0; --edits) {
    const auto at = static_cast<std::ptrdiff_t>(random() % (bytes.size() + 1));
    switch (bytes.empty() ? 1 : random() % 4) {
      case 0: bytes[random() % bytes.size()] = static_cast<std::uint8_t>(random()); break;
      case 1: bytes.insert(bytes.begin() + at, static_cast<std::uint8_t>(random())); break;
      case 2: bytes.erase(bytes.begin() + at % static_cast<std::ptrdiff_t>(bytes.size())); break;
      default: {
        const Bytes part(bytes.begin(), bytes.begin() + at);
        bytes.insert(bytes.begin() + at, part.begin(), part.end());
      }
    }
  }
}

class Corpus : public testing::TestWithParam<Named> {};
INSTANTIATE_TEST_SUITE_P(Fuzz, Corpus, testing::ValuesIn(kTargets),
                         [](const auto& one) { return std::string(one.param.name); });

TEST_P(Corpus, AndDamagedCopies) {
  const std::vector<Bytes> seeds = corpus(std::string(GetParam().name));
  ASSERT_GE(seeds.size(), 3u);
  for (const Bytes& seed : seeds) {
    GetParam().target(seed);
  }
  std::mt19937 random(9);
  for (int round = 0; round < 5000; ++round) {
    Bytes bytes = seeds[random() % seeds.size()];
    damage(bytes, random);
    GetParam().target(bytes);
  }
}

}  // namespace
}  // namespace setsuna::fuzz
