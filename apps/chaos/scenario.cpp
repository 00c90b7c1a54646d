#include "apps/chaos/scenario.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <functional>
#include <random>
#include <set>
#include <sstream>

#include "protocol/fault_points.h"
#include "protocol/format.h"
#include "protocol/yaml_tree.h"

namespace crabcast::chaos {
namespace {

using Kind = Fault::Kind;

constexpr std::array<std::pair<std::string_view, Kind>, 12> kKinds = {{
    {"kill", Kind::kill},
    {"stop", Kind::stop},
    {"slow", Kind::slow},
    {"terminate", Kind::terminate},
    {"memory", Kind::memory},
    {"partition", Kind::partition},
    {"delay", Kind::delay},
    {"sever", Kind::sever},
    {"repeat", Kind::repeat},
    {"garble", Kind::garble},
    {"corrupt", Kind::corrupt},
    {"remove", Kind::remove},
}};
// What a stopped process is noticed by (JobTimeouts::stuck_least), with a little patience.
constexpr double kSurelyNoticed = 6.5;
constexpr double kRandomStop = 8;
constexpr Kind kLastOfAProcess = Kind::memory;
constexpr std::uint32_t kMostNodes = 8;

std::string_view name_of(Kind kind) {
  return std::find_if(kKinds.begin(), kKinds.end(),
                      [&](const auto& known) { return known.second == kind; })
      ->first;
}
std::optional<Kind> kind_from(std::string_view name) {
  for (const auto& [known, kind] : kKinds)
    if (known == name) return kind;
  return std::nullopt;
}

// Points where a killed process leaves something half done, for `kinds: [point]`.
struct Place {
  std::string_view role;  // or the kind of role, when there are several
  std::string_view point;
  std::uint64_t most;  // it is passed so often in a small job, at least
};
constexpr std::array kPlaces = {
    Place{"coordinator", "ledger.commit.before", 20},
    Place{"coordinator", "ledger.commit.after", 20},
    Place{"coordinator", "checkpoint.begin", 3},
    Place{"coordinator", "checkpoint.chunk", 6},
    Place{"coordinator", "checkpoint.commit.before", 3},
    Place{"coordinator", "checkpoint.commit.after", 3},
    Place{"worker", "state.load", 1},
    Place{"worker", "collective.form", 1},
    Place{"worker", "collective.all_to_all", 20},
    Place{"worker", "collective.all_gather", 20},
    Place{"worker", "step.forward", 30},
    Place{"worker", "step.report", 20},
    Place{"worker", "step.apply", 20},
    Place{"loader", "batch.make", 40},
    Place{"evaluator", "evaluate.batch", 2},
};

// Reads one file; the first mistake ends it.
class Reader {
 public:
  Reader(std::filesystem::path file, std::uint64_t seed)
      : file_(std::move(file)), seed_(seed), random_(seed) {}

  Result<Scenario> read() {
    std::ifstream stream(file_);
    if (!stream) return fail(Errc::not_found, "no scenario " + file_.string());
    std::ostringstream text;
    text << stream.rdbuf();
    const auto document = read_yaml(text.str());
    if (!document.problems.empty()) {
      const auto& problem = document.problems.front();
      return fail(Errc::invalid_argument,
                  file_.string() + ":" + std::to_string(problem.line) + ": " + problem.message);
    }
    scenario_.name = file_.stem().string();
    const std::map<std::string, Field> fields = {
        {"crabcast_chaos",
         [&](const YamlNode& node) {
           return node.text == "1" ? Status{} : wrong(node, "expected version 1");
         }},
        {"job", [&](const YamlNode& node) { return read_job(node); }},
        {"nodes",
         [&](const YamlNode& node) { return read_whole(node, 1, kMostNodes, scenario_.nodes); }},
        {"limit",
         [&](const YamlNode& node) { return read_seconds(node, scenario_.limit_seconds); }},
        {"ends", [&](const YamlNode& node) { return read_text(node, scenario_.ends); }},
        {"same_result",
         [&](const YamlNode& node) {
           scenario_.same_result = node.text == "true";
           return node.text == "true" || node.text == "false"
                      ? Status{}
                      : wrong(node, "expected true or false");
         }},
        {"faults", [&](const YamlNode& node) { return read_faults(node); }},
        {"orders", [&](const YamlNode& node) { return read_orders(node); }},
        {"incidents", [&](const YamlNode& node) { return read_incidents(node); }},
        {"random", [&](const YamlNode& node) { return read_random(node); }},
    };
    CRABCAST_TRY(read_mapping(document.root, fields));
    if (scenario_.job.empty())
      return fail(Errc::invalid_argument, file_.string() + ": no job is given");
    return scenario_;
  }

 private:
  using Field = std::function<Status(const YamlNode&)>;

  tl::unexpected<Error> wrong(const YamlNode& node, const std::string& why) const {
    return fail(Errc::invalid_argument, file_.string() + ":" + std::to_string(node.line) + ":" +
                                            std::to_string(node.column) + ": " + why);
  }

  Status read_mapping(const YamlNode& node, const std::map<std::string, Field>& fields) const {
    if (node.kind != YamlNode::Kind::mapping) return wrong(node, "expected fields");
    std::vector<std::string> known;
    for (const auto& [name, field] : fields) known.push_back(name);
    for (std::size_t i = 0; i < node.keys.size(); ++i) {
      const auto& name = node.keys[i].text;
      const auto field = fields.find(name);
      if (field == fields.end()) {
        const auto nearest = nearest_name(name, known);
        return wrong(node.keys[i], "no field is named '" + name + "'" +
                                       (nearest ? "; did you mean " + *nearest + "?" : "") +
                                       " (known: " + join_names(known) + ")");
      }
      CRABCAST_TRY(field->second(node.items[i]));
    }
    return {};
  }

  Status read_text(const YamlNode& node, std::string& into) const {
    if (node.kind != YamlNode::Kind::scalar || node.text.empty())
      return wrong(node, "expected a text");
    into = node.text;
    return {};
  }

  template <class Whole>
  Status read_whole(const YamlNode& node, std::uint64_t least, std::uint64_t most,
                    Whole& into) const {
    const auto value = parse_whole(node.text);
    if (!value || *value < least || *value > most)
      return wrong(node, "expected a whole number from " + std::to_string(least) + " to " +
                             std::to_string(most));
    into = static_cast<Whole>(*value);
    return {};
  }

  Status read_seconds(const YamlNode& node, double& into) const {
    const auto value = parse_duration(node.text);
    if (!value) return wrong(node, value.error().message);
    into = *value;
    return {};
  }

  Status read_job(const YamlNode& node) {
    std::string name;
    CRABCAST_TRY(read_text(node, name));
    scenario_.job = file_.parent_path() / name;
    if (!std::filesystem::exists(scenario_.job))
      return wrong(node, "no file " + scenario_.job.string());
    return {};
  }

  // "step 7" or "checkpoint 12".
  Status read_moment(const YamlNode& node, Moment& moment) const {
    const auto blank = node.text.find(' ');
    const auto what = node.text.substr(0, blank);
    const auto number =
        blank == std::string::npos ? std::nullopt : parse_whole(node.text.substr(blank + 1));
    if (!number || (what != "step" && what != "checkpoint"))
      return wrong(node, "expected 'step N' or 'checkpoint N'");
    (what == "step" ? moment.step : moment.checkpoint) = *number;
    return {};
  }

  Status read_faults(const YamlNode& node) {
    if (node.kind != YamlNode::Kind::sequence) return wrong(node, "expected a list of faults");
    for (const auto& item : node.items) {
      Fault fault;
      bool named = false;
      std::map<std::string, Field> fields = {
          {"at", [&](const YamlNode& value) { return read_moment(value, fault.moment); }},
          {"after", [&](const YamlNode& value) { return read_seconds(value, fault.moment.after); }},
          {"for", [&](const YamlNode& value) { return read_seconds(value, fault.seconds); }},
          {"by",
           [&](const YamlNode& value) -> Status {
             double by = 0;
             CRABCAST_TRY(read_seconds(value, by));
             fault.milliseconds = by * 1000;
             return {};
           }},
      };
      for (const auto& [name, kind] : kKinds)
        fields.emplace(name, [&, kind = kind](const YamlNode& value) {
          if (std::exchange(named, true)) return Status(wrong(value, "one fault at a time"));
          fault.kind = kind;
          return read_text(value, fault.target);
        });
      CRABCAST_TRY(read_mapping(item, fields));
      if (!named) return wrong(item, "no fault is named");
      CRABCAST_TRY(check(item, fault));
      scenario_.faults.push_back(std::move(fault));
    }
    return {};
  }

  Status check(const YamlNode& item, const Fault& fault) const {
    const bool lasts =
        fault.kind == Kind::slow || fault.kind == Kind::partition || fault.kind == Kind::delay;
    if (lasts && fault.seconds <= 0)
      return wrong(item, std::string(name_of(fault.kind)) + " needs 'for'");
    if (fault.kind == Kind::delay && fault.milliseconds <= 0)
      return wrong(item, "delay needs 'by'");
    return {};
  }

  Status read_orders(const YamlNode& node) {
    if (node.kind != YamlNode::Kind::sequence) return wrong(node, "expected a list of orders");
    for (const auto& item : node.items) {
      const auto order = parse_fault_orders(item.text);
      if (!order) return wrong(item, order.error().message);
      if (order->size() != 1) return wrong(item, "expected one order");
      // Before those that were drawn, if the file has them in the other order.
      scenario_.orders.insert(
          scenario_.orders.begin() + static_cast<std::ptrdiff_t>(scenario_.orders_of_the_file++),
          item.text);
    }
    return {};
  }

  // N, or [LEAST, MOST].
  Status read_incidents(const YamlNode& node) {
    if (node.kind != YamlNode::Kind::mapping) return wrong(node, "expected CULPRIT: NUMBER");
    for (std::size_t i = 0; i < node.keys.size(); ++i) {
      const auto& value = node.items[i];
      const bool range = value.kind == YamlNode::Kind::sequence && value.items.size() == 2;
      auto& [least, most] = scenario_.incidents[node.keys[i].text];
      CRABCAST_TRY(read_whole(range ? value.items[0] : value, 0, 1000, least));
      CRABCAST_TRY(read_whole(range ? value.items[1] : value, 0, 1000, most));
    }
    return {};
  }

  // ---- chance ------------------------------------------------------------------------------

  std::uint64_t draw(std::uint64_t least, std::uint64_t most) {
    return least + random_() % (most - least + 1);
  }
  template <class T>
  const T& one_of(const std::vector<T>& from) {
    return from[draw(0, from.size() - 1)];
  }

  Status read_random(const YamlNode& node) {
    std::uint64_t count = 1;
    std::vector<std::string> kinds = {"kill"}, roles = {"worker-0", "worker-1"};
    std::uint64_t first = 2, last = 20;
    const auto names = [this](std::vector<std::string>& into) {
      return [this, &into](const YamlNode& value) {
        into.clear();
        for (const auto& item : value.items) into.push_back(item.text);
        return into.empty() ? Status(wrong(value, "expected a list of names")) : Status{};
      };
    };
    CRABCAST_TRY(read_mapping(
        node, {{"faults", [&](const YamlNode& value) { return read_whole(value, 0, 1000, count); }},
               {"kinds", names(kinds)},
               {"roles", names(roles)},
               {"steps", [&](const YamlNode& value) -> Status {
                  if (value.items.size() != 2) return wrong(value, "expected [FIRST, LAST]");
                  CRABCAST_TRY(read_whole(value.items[0], 1, 1'000'000, first));
                  return read_whole(value.items[1], first, 1'000'000, last);
                }}}));
    for (const auto& kind : kinds) {
      const auto known = kind_from(kind);
      if (kind != "point" && kind != "pair" && !(known && *known <= kLastOfAProcess))
        return wrong(node, "no kind of fault that can be drawn is named '" + kind + "'");
    }
    std::vector<std::vector<Fault>> drawn;  // those that strike together
    for (std::uint64_t i = 0; i < count; ++i) {
      const auto& kind = one_of(kinds);
      if (kind == "point") {
        draw_point(roles);
        continue;
      }
      if (kind == "pair") {
        if (roles.size() < 2) return wrong(node, "a pair needs two roles");
        drawn.push_back(draw_pair(roles, i, draw(first, last)));
        continue;
      }
      Fault fault;
      fault.kind = *kind_from(kind);
      fault.target = one_of(roles);
      fault.moment.step = draw(first, last);
      // Only workers leave in good order; a starved supervisor cannot be told from a dead one.
      const bool works = fault.target.starts_with("worker");
      if (!works && (fault.kind == Kind::terminate || fault.kind == Kind::slow))
        fault.kind = Kind::kill;
      if (fault.kind == Kind::stop || fault.kind == Kind::slow) fault.seconds = kRandomStop;
      drawn.push_back({fault});
    }
    std::stable_sort(drawn.begin(), drawn.end(), [](const auto& a, const auto& b) {
      return *a.front().moment.step < *b.front().moment.step;
    });
    for (auto& together : drawn)
      for (auto& fault : together) scenario_.faults.push_back(std::move(fault));
    return {};
  }

  // One after the other with the seeds, so that n * (n - 1) of them play all.
  std::vector<Fault> draw_pair(const std::vector<std::string>& roles, std::uint64_t number,
                               std::uint64_t step) {
    const auto others = roles.size() - 1;
    const auto index = (seed_ + number) % (roles.size() * others);
    const auto first = index / others, second = index % others;
    Fault one, other;
    one.target = roles[first];
    one.moment.step = step;
    other.target = roles[second < first ? second : second + 1];
    other.moment.after = static_cast<double>(draw(0, 900)) / 1000;
    return {one, other};
  }

  void draw_point(const std::vector<std::string>& roles) {
    std::vector<std::pair<std::string, const Place*>> fitting;
    for (const auto& role : roles)
      for (const auto& place : kPlaces)
        if (role.substr(0, role.find('-')) == place.role) fitting.emplace_back(role, &place);
    if (fitting.empty()) return;
    const auto& [role, place] = one_of(fitting);
    FaultOrder order;
    order.role = role;
    order.point = place->point;
    order.count = draw(1, place->most);
    order.action = FaultOrder::Action::kill;
    auto text = crabcast::to_string(order);
    // The same one twice would be one death.
    auto& orders = scenario_.orders;
    if (std::find(orders.begin(), orders.end(), text) == orders.end())
      orders.push_back(std::move(text));
  }

  const std::filesystem::path file_;
  const std::uint64_t seed_;
  std::mt19937_64 random_;
  Scenario scenario_;
};

void expect(std::map<std::string, std::pair<int, int>>& all, const std::string& culprit, int least,
            int most) {
  auto& [from, to] = all[culprit];
  from += least;
  to += most;
}

}  // namespace

Result<Scenario> read_scenario(const std::filesystem::path& file, std::uint64_t seed) {
  return Reader(file, seed).read();
}

std::string to_string(const Fault& fault) {
  std::string text = std::string(name_of(fault.kind)) + " " + fault.target;
  if (fault.milliseconds > 0) text += " by " + format_duration(fault.milliseconds / 1000);
  if (fault.seconds > 0) text += " for " + format_duration(fault.seconds);
  if (fault.moment.step) text += " at step " + std::to_string(*fault.moment.step);
  if (fault.moment.checkpoint) text += " at checkpoint " + std::to_string(*fault.moment.checkpoint);
  if (fault.moment.after > 0) text += " after " + format_duration(fault.moment.after);
  return text;
}

std::map<std::string, std::pair<int, int>> expected_incidents(const Scenario& scenario) {
  std::map<std::string, std::pair<int, int>> all;
  const auto& faults = scenario.faults;
  for (std::size_t i = 0; i < faults.size(); ++i) {
    const auto& fault = faults[i];
    // Nobody can tell of it whose node went away within a second.
    const bool untold = i + 1 < faults.size() && faults[i + 1].target.starts_with("agent@") &&
                        !faults[i + 1].moment.step && !faults[i + 1].moment.checkpoint;
    switch (fault.kind) {
      case Kind::kill:  // a controller's is noticed by no job
        if (fault.target != "controller") expect(all, fault.target, untold ? 0 : 1, 1);
        break;
      case Kind::stop: {
        // Beside other faults it may come between two coordinators, and be over for the second.
        const bool noticed = faults.size() + scenario.orders.size() == 1 &&
                             (fault.seconds == 0 || fault.seconds >= kSurelyNoticed);
        expect(all, fault.target, noticed && fault.target != "controller" ? 1 : 0, 1);
        break;
      }
      case Kind::slow:
      case Kind::memory:
        expect(all, fault.target, 0, 1);
        break;
      case Kind::remove:
        expect(all, "agent@" + fault.target, 1, 1);
        break;
      default:
        break;
    }
  }
  for (const auto& text : scenario.orders) {
    const auto orders = parse_fault_orders(text);
    if (!orders) continue;
    for (const auto& order : *orders) {
      const bool ends =
          order.action == FaultOrder::Action::kill || order.action == FaultOrder::Action::exit;
      if (ends) expect(all, order.role, 1, 1);
      if (order.action == FaultOrder::Action::stop) expect(all, order.role, 0, 1);
    }
  }
  for (const auto& [culprit, count] : scenario.incidents) all[culprit] = count;
  return all;
}

}  // namespace crabcast::chaos
