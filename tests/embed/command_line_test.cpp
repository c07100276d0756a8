// The command line of `setsuna`.
#include "rbridge/embed/command_line.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace setsuna::embed::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(CommandLineTest, AUrlAlone) {
  const CommandLine line = parse_command({"daemon", "tcp://h:1"});
  EXPECT_EQ(line.error, "");
  EXPECT_EQ(line.url, "tcp://h:1");
  EXPECT_THAT(line.arguments, IsEmpty());
}

TEST(CommandLineTest, EveryOptionBecomesAnArgument) {
  const CommandLine line =
      parse_command({"daemon", "--token=ab12", "--tlscert", "it's.pem", "tls+tcp://h:1", "--asyncdial", "--autoexit",
                     "never", "--no-cleanup", "--idletime=1e3", "--walltime", "5", "--maxtasks", "7", "--rs",
                     "10407,1,-2,3,4,5,6", "--library=/lib"});
  EXPECT_EQ(line.error, "");
  EXPECT_EQ(line.url, "tls+tcp://h:1");
  EXPECT_EQ(line.library, "/lib");
  EXPECT_THAT(line.arguments,
              ElementsAre("token='ab12'", "tlscert='it\\'s.pem'", "asyncdial=TRUE", "autoexit=FALSE", "cleanup=FALSE",
                          "idletime=1e3", "walltime=5", "maxtasks=7", "rs=c(10407,1,-2,3,4,5,6)"));
}

TEST(CommandLineTest, WaysToExit) {
  const auto autoexit = [](const char* value) { return parse_command({"daemon", "u", "--autoexit", value}); };
  EXPECT_THAT(autoexit("now").arguments, ElementsAre("autoexit=TRUE"));
  EXPECT_THAT(autoexit("finish").arguments, ElementsAre("autoexit=NA"));
  EXPECT_THAT(autoexit("15").arguments, ElementsAre("autoexit=15"));
  EXPECT_THAT(autoexit("0").error, HasSubstr("--autoexit"));
  EXPECT_THAT(autoexit("later").error, HasSubstr("'later'"));
}

TEST(CommandLineTest, TheTokenFromStandardInput) {
  const CommandLine line = parse_command({"daemon", "u", "--token-stdin"});
  EXPECT_TRUE(line.token_from_stdin);
  EXPECT_THAT(line.arguments, IsEmpty());
}

TEST(CommandLineTest, HelpComesBeforeAnythingElse) {
  EXPECT_TRUE(parse_command({"--help"}).help);
  EXPECT_TRUE(parse_command({"daemon", "--help"}).help);
  EXPECT_TRUE(parse_command({"daemon", "u", "-h"}).help);
}

TEST(CommandLineTest, HelpNamesEveryOption) {
  for (const char* name : {"--token ", "--token-stdin", "--tlscert", "--asyncdial", "--autoexit", "--no-cleanup",
                           "--idletime", "--walltime", "--maxtasks", "--rs", "--library", "--help"}) {
    EXPECT_THAT(kCommandHelp, HasSubstr(name));
  }
}

TEST(CommandLineTest, TuneHandsItsOptionsOn) {
  const CommandLine line = parse_command({"tune", "--goal=power", "--quick", "--knobs", "spin,slots", "--plot=a'b.svg",
                                          "--out", "x.json", "--library=/lib"});
  EXPECT_EQ(line.error, "");
  EXPECT_EQ(line.command, "tune");
  EXPECT_EQ(line.library, "/lib");
  EXPECT_THAT(line.arguments,
              ElementsAre("goal='power'", "quick=TRUE", "knobs=c('spin','slots')", "plot='a\\'b.svg'", "out='x.json'"));
  EXPECT_THAT(parse_command({"tune"}).arguments, ElementsAre("out='setsuna.json'"));
  EXPECT_EQ(parse_command({"daemon", "u"}).command, "daemon");
}

TEST(CommandLineTest, TuneNamesWhatIsWrong) {
  const auto error = [](std::vector<std::string> words) { return parse_command(std::move(words)).error; };
  EXPECT_THAT(error({"tune", "fast"}), HasSubstr("'fast'"));
  EXPECT_THAT(error({"tune", "--speed=1"}), HasSubstr("'--speed'"));
  EXPECT_THAT(error({"tune", "--goal"}), HasSubstr("--goal takes a value"));
  const CommandLine help = parse_command({"tune", "--help"});
  EXPECT_TRUE(help.help);
  for (const char* name : {"--goal", "--quick", "--out", "--knobs", "--plot", "--library", "--help"}) {
    EXPECT_THAT(help.help_text, HasSubstr(name));
  }
}

TEST(CommandLineTest, WhatIsWrongIsNamed) {
  const auto error = [](std::vector<std::string> words) { return parse_command(std::move(words)).error; };
  EXPECT_THAT(error({}), HasSubstr("command"));
  EXPECT_THAT(error({"deamon", "u"}), HasSubstr("'deamon'"));
  EXPECT_THAT(error({"daemon"}), HasSubstr("URL"));
  EXPECT_THAT(error({"daemon", "u", "v"}), HasSubstr("'v'"));
  EXPECT_THAT(error({"daemon", "u", "--tokens=1"}), HasSubstr("'--tokens'"));
  EXPECT_THAT(error({"daemon", "u", "--maxtasks"}), HasSubstr("takes a value"));
  EXPECT_THAT(error({"daemon", "u", "--asyncdial=1"}), HasSubstr("takes no value"));
  EXPECT_THAT(error({"daemon", "u", "--idletime=-1"}), HasSubstr("--idletime"));
  EXPECT_THAT(error({"daemon", "u", "--walltime=soon"}), HasSubstr("'soon'"));
  EXPECT_THAT(error({"daemon", "u", "--rs=1,2"}), HasSubstr("--rs"));
}

}  // namespace
}  // namespace setsuna::embed::test
