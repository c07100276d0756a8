#include "runtime/zero_table.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdint>
#include <vector>

#include "runtime/layout.hpp"

namespace setsuna::runtime {
namespace {

using Table = ZeroTable<std::uint64_t>;

std::size_t resident_pages(Table& table, std::size_t count) {
  std::vector<unsigned char> pages(count * sizeof(std::uint64_t) / kPageBytes);
  EXPECT_EQ(::mincore(&table[0], count * sizeof(std::uint64_t), pages.data()), 0);
  std::size_t out = 0;
  for (const unsigned char page : pages) {
    out += page & 1U;
  }
  return out;
}

// As large as that of a daemon.
TEST(ZeroTable, BeginsAsZerosAndWithoutPages) {
  constexpr std::size_t kCount = 12 * 1024;
  Table table(kCount);
  ASSERT_TRUE(table);
  ::madvise(&table[0], kCount * sizeof(std::uint64_t),
            MADV_NOHUGEPAGE);  // or a neighbour's write may bring pages here, too
  EXPECT_EQ(resident_pages(table, kCount), 0u);
  table[kCount - 1] = 7;
  EXPECT_EQ(resident_pages(table, kCount), 1u);
  for (std::size_t i = 0; i < kCount; ++i) {
    ASSERT_EQ(table[i], i == kCount - 1 ? 7u : 0u) << i;
  }
}

TEST(ZeroTable, WithoutMemoryItIsEmpty) {
  EXPECT_FALSE(Table());
  EXPECT_FALSE(Table(std::size_t{1} << 50));
}

}  // namespace
}  // namespace setsuna::runtime
