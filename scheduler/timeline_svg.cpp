// The simulator's picture.
#include <algorithm>
#include <cmath>

#include "protocol/format.h"
#include "scheduler/simulator.h"

namespace crabcast::scheduler {
namespace {

constexpr double kWidth = 960, kHeight = 540;
constexpr double kLeft = 64, kRight = 24;
constexpr double kPanel = 190;               // height of each of the two
constexpr double kUpper = 56, kLower = 310;  // where they begin

// Colours that keep their distance in both modes, also for people who do not tell red from green.
constexpr std::string_view kStyle = R"(<style>
  .paper { fill: #ffffff }
  text { font: 13px system-ui, sans-serif; fill: #1f2430 }
  .title { font-size: 15px; font-weight: 600 }
  .tick { fill: #5c6475; font-size: 12px }
  .grid { stroke: #d9dde5 }
  .line { fill: none; stroke-width: 1.8; stroke-linejoin: round }
  .gpus { stroke: #0b6bcb } .cpus { stroke: #b45309 } .memory { stroke: #7a5af5 }
  .running { stroke: #0f766e } .waiting { stroke: #c2255c }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #14171d }
    text { fill: #e8eaf0 }
    .tick { fill: #a4adbd }
    .grid { stroke: #323946 }
    .gpus { stroke: #5ab0ff } .cpus { stroke: #f5a742 } .memory { stroke: #b7a3ff }
    .running { stroke: #4fd1c5 } .waiting { stroke: #ff7eb0 }
  }
</style>
)";

// To a tenth.
std::string fixed(double value) {
  return exact_number(std::round(value * 10) / 10);
}

std::string text_at(double x, double y, const std::string& text, const std::string& kind,
                    const std::string& anchor = "start") {
  return "<text class=\"" + kind + "\" x=\"" + fixed(x) + "\" y=\"" + fixed(y) +
         "\" text-anchor=\"" + anchor + "\">" + text + "</text>\n";
}

// 1, 2 or 5 times a power of ten, at least `most`.
double round_up(double most) {
  const double power = std::pow(10, std::floor(std::log10(std::max(most, 1.0))));
  for (const double step : {1.0, 2.0, 5.0, 10.0})
    if (most <= step * power) return step * power;
  return 10 * power;
}

class Picture {
 public:
  explicit Picture(const SimulationResult& result) : result_(result) {
    end_ = std::max(1.0, result.timeline.empty() ? 1.0 : result.timeline.back().at);
  }

  std::string draw() {
    out_ = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + fixed(kWidth) + " " +
           fixed(kHeight) +
           "\" role=\"img\" aria-label=\"Use of the cluster, and jobs that run and wait, over "
           "time\">\n";
    out_ += kStyle;
    out_ += "<rect width=\"100%\" height=\"100%\" class=\"paper\"/>\n";
    double most = 1;
    for (const TimelinePoint& point : result_.timeline)
      most =
          std::max({most, static_cast<double>(point.running), static_cast<double>(point.pending)});
    most = round_up(most);

    panel(kUpper, "Use of the cluster", 1,
          [](double value) { return exact_number(std::round(value * 100)) + "%"; });
    legend(kUpper, {{"gpus", "GPUs"}, {"cpus", "CPUs"}, {"memory", "memory"}});
    line(kUpper, 1, "memory", [](const TimelinePoint& p) { return p.memory; });
    line(kUpper, 1, "cpus", [](const TimelinePoint& p) { return p.cpus; });
    line(kUpper, 1, "gpus", [](const TimelinePoint& p) { return p.gpus; });

    panel(kLower, "Jobs", most, [](double value) { return exact_number(value); });
    legend(kLower, {{"running", "running"}, {"waiting", "waiting"}});
    line(kLower, most, "running", [](const TimelinePoint& p) { return double(p.running); });
    line(kLower, most, "waiting", [](const TimelinePoint& p) { return double(p.pending); });
    return out_ + "</svg>\n";
  }

 private:
  [[nodiscard]] double x(double at) const { return kLeft + at / end_ * (kWidth - kLeft - kRight); }
  static double y(double top, double value, double most) {
    return top + kPanel * (1 - std::clamp(value / most, 0.0, 1.0));
  }

  template <class Text>
  void panel(double top, const std::string& title, double most, const Text& text) {
    out_ += text_at(kLeft, top - 16, title, "title");
    for (int i = 0; i <= 4; ++i) {
      const double value = most * i / 4, height = y(top, value, most);
      out_ += "<line class=\"grid\" x1=\"" + fixed(kLeft) + "\" x2=\"" + fixed(kWidth - kRight) +
              "\" y1=\"" + fixed(height) + "\" y2=\"" + fixed(height) + "\"/>\n";
      out_ += text_at(kLeft - 8, height + 4, text(value), "tick", "end");
    }
    for (int i = 0; i <= 4; ++i)
      out_ += text_at(x(end_ * i / 4), top + kPanel + 18, format_duration(end_ * i / 4), "tick",
                      i == 0   ? "start"
                      : i == 4 ? "end"
                               : "middle");
  }

  void legend(double top, const std::vector<std::pair<std::string, std::string>>& entries) {
    double at = kWidth - kRight - 100.0 * static_cast<double>(entries.size());
    for (const auto& [kind, name] : entries) {
      out_ += "<path class=\"line " + kind + "\" d=\"M" + fixed(at) + " " + fixed(top - 20) +
              "h22\"/>\n" + text_at(at + 28, top - 16, name, "name");
      at += 100;
    }
  }

  template <class Value>
  void line(double top, double most, const std::string& kind, const Value& value) {
    std::string path;
    for (const TimelinePoint& point : result_.timeline)
      path +=
          (path.empty() ? "M" : "L") + fixed(x(point.at)) + " " + fixed(y(top, value(point), most));
    if (!path.empty()) out_ += "<path class=\"line " + kind + "\" d=\"" + path + "\"/>\n";
  }

  const SimulationResult& result_;
  double end_ = 1;
  std::string out_;
};

}  // namespace

std::string to_svg(const SimulationResult& result) {
  return Picture(result).draw();
}

}  // namespace crabcast::scheduler
