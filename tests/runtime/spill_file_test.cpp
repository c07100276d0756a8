// What is appended to a spill file is what is read; it leaves no name behind.
#include "runtime/spill_file.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

namespace {

using setsuna::runtime::SpillFile;

class SpillFileTest : public ::testing::Test {
 protected:
  SpillFileTest() {
    std::string path = ::testing::TempDir() + "spill-XXXXXX";
    folder_ = ::mkdtemp(path.data());
  }
  ~SpillFileTest() override { std::filesystem::remove_all(folder_); }

  std::string folder_;
};

TEST_F(SpillFileTest, ReadsWhatWasAppended) {
  SpillFile file(folder_);
  const std::vector<int> first{1, 2, 3};
  const std::vector<int> second{4, 5};
  ASSERT_TRUE(file.append(first.data(), 3 * sizeof(int)));
  ASSERT_TRUE(file.append(second.data(), 2 * sizeof(int)));
  EXPECT_EQ(file.size(), 5 * sizeof(int));
  std::vector<int> got(4);
  ASSERT_TRUE(file.read(sizeof(int), got.data(), 4 * sizeof(int)));
  EXPECT_EQ(got, (std::vector<int>{2, 3, 4, 5}));
  EXPECT_FALSE(file.read(2 * sizeof(int), got.data(), 4 * sizeof(int)));
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(SpillFileTest, BeginsAnewWhenCleared) {
  SpillFile file(folder_);
  const std::vector<int> old{1, 2, 3};
  const int fresh = 7;
  ASSERT_TRUE(file.append(old.data(), 3 * sizeof(int)));
  file.clear();
  int got = 0;
  EXPECT_FALSE(file.read(0, &got, sizeof(got)));
  ASSERT_TRUE(file.append(&fresh, sizeof(fresh)));
  ASSERT_TRUE(file.read(0, &got, sizeof(got)));
  EXPECT_EQ(got, fresh);
  EXPECT_FALSE(file.read(sizeof(int), &got, sizeof(got)));
}

TEST_F(SpillFileTest, TellsThatItCannotBe) {
  SpillFile file(folder_ + "/nowhere");
  const int value = 1;
  EXPECT_FALSE(file.append(&value, sizeof(value)));
  EXPECT_EQ(file.size(), 0U);
}

}  // namespace
