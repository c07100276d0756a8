// Tokens on a command line.
#include "rbridge/embed/scrub.hpp"

#include <gtest/gtest.h>

#include <string>

namespace setsuna::embed::test {
namespace {

std::string scrubbed(std::string text) {
  scrub_tokens(text);
  return text;
}

TEST(ScrubTest, TheValueOfAnArgumentIsOverwritten) {
  EXPECT_EQ(scrubbed("daemon('tcp://h:1', token='ab12', x=1)"), "daemon('tcp://h:1', token='xxxx', x=1)");
  EXPECT_EQ(scrubbed("daemon(\"u\",token=\"ab12\")"), "daemon(\"u\",token=\"xxxx\")");
  EXPECT_EQ(scrubbed("daemon('u', token = 'ab12')"), "daemon('u', token = 'xxxx')");
}

TEST(ScrubTest, AsRscriptWritesSpaces) {
  EXPECT_EQ(scrubbed("daemon('u',~+~token~+~=~+~'ab12',~+~x)"), "daemon('u',~+~token~+~=~+~'xxxx',~+~x)");
}

TEST(ScrubTest, TheOptionInOneWordOrTwo) {
  EXPECT_EQ(scrubbed("--token=ab12 --x"), "--token=xxxx --x");
  EXPECT_EQ(scrubbed(std::string("--token\0ab12\0--x", 16)), std::string("--token\0xxxx\0--x", 16));
}

TEST(ScrubTest, EveryOne) { EXPECT_EQ(scrubbed("f(token='a'); g(token='bb')"), "f(token='x'); g(token='xx')"); }

TEST(ScrubTest, OtherTextStays) {
  for (const char* text : {"mytoken='ab12'", "token", "token=", "tokens='a'", "the token is 'x'", "--token-stdin"}) {
    EXPECT_EQ(scrubbed(text), text);
  }
}

TEST(ScrubTest, AnUnfinishedValueEndsWithItsArgument) {
  EXPECT_EQ(scrubbed(std::string("token='ab\0c'", 12)), std::string("token='xx\0c'", 12));
  EXPECT_EQ(scrubbed("token='ab"), "token='xx");
}

}  // namespace
}  // namespace setsuna::embed::test
