// What `setsuna top` shows and how it answers keys. Knows no terminal: its screen is lines of text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "rbridge/monitor/view/sample.hpp"

namespace setsuna::monitor {

enum class TopKey : std::uint8_t {
  kUp,
  kDown,
  kPageUp,
  kPageDown,
  kHome,
  kEnd,
  kSort,
  kPause,
  kFaster,
  kSlower,
  kHelp,
  kQuit,
  kOther
};

enum class TopSort : std::uint8_t { kIndex, kRate, kCompleted, kCpu, kMemory };

struct TopLine {
  enum class Style : std::uint8_t { kPlain, kBar, kHeader, kHost, kProfile, kDim, kWarning };
  std::string text;  // exactly as wide as the screen
  Style style = Style::kPlain;
  bool selected = false;
};

class TopModel {
 public:
  explicit TopModel(double interval_s) : interval_s_(interval_s) {}

  // A new snapshot. While paused it is not shown. `problem`: why there is none.
  void show(Snapshot snapshot, std::string problem);
  // False: the program is to end.
  bool on_key(TopKey key);
  std::vector<TopLine> render(std::size_t width, std::size_t height);
  double interval_s() const { return interval_s_; }
  bool paused() const { return paused_; }

 private:
  // A line of the list. Hosts and daemons can be chosen; what is chosen is known by its key while lines come and go.
  struct Row {
    std::string key;  // empty: cannot be chosen
    TopLine line;
    const HostSample* host;
    const ProfileSample* profile;
    const DaemonSample* daemon;
  };

  std::vector<Row> rows() const;
  void add_host(const HostSample& host, std::vector<Row>* rows) const;
  void add_profile(const HostSample& host, const ProfileSample& profile, std::vector<Row>* rows) const;
  std::vector<const DaemonSample*> sorted(const ProfileSample& profile) const;
  void move(int by);
  std::size_t position(const std::vector<Row>& rows) const;
  std::string title(std::size_t width) const;
  std::vector<std::string> details(const Row* row) const;
  std::vector<TopLine> help(std::size_t width, std::size_t height) const;

  Snapshot shown_;
  std::string problem_;
  double interval_s_;
  bool paused_ = false;
  bool help_ = false;
  TopSort sort_ = TopSort::kIndex;
  std::string chosen_;
  std::size_t chosen_at_ = 0;  // where it stood, for when it goes
  std::size_t first_ = 0;      // of the lines that are seen
  std::size_t page_ = 1;
};

}  // namespace setsuna::monitor
