#include "data/synth_stats.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "data/synth_sample.h"

namespace crabcast::data {
namespace {

// What is kept of a sample.
struct Fact {
  std::string answer = {}, type = {};
  std::optional<Senses> senses = {};
};

Result<std::vector<Fact>> collect(std::vector<SynthRequest> requests, int threads) {
  std::vector<Fact> facts(requests.size());
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::optional<Error> failure;  // guarded by mutex
  const auto work = [&] {
    for (std::size_t at = next.fetch_add(1); at < requests.size(); at = next.fetch_add(1)) {
      requests[at].media = false;
      auto sample = render_sample(requests[at]);
      if (sample) {
        facts[at] = {std::move(sample->answer), std::move(sample->type), sample->senses};
        continue;
      }
      const std::scoped_lock lock(mutex);
      if (!failure) failure = std::move(sample).error();
      next.store(requests.size());
    }
  };
  {
    std::vector<std::jthread> workers;
    for (int i = 0; i < std::max(1, threads); ++i) workers.emplace_back(work);
  }
  if (failure) return fail(std::move(*failure));
  return facts;
}

SynthFigures summarize(std::string name, const std::vector<const Fact*>& facts) {
  SynthFigures figures{.name = std::move(name), .samples = facts.size()};
  const double each = facts.empty() ? 0 : 1.0 / static_cast<double>(facts.size());
  std::map<std::string_view, std::uint64_t> counts;
  for (const Fact* fact : facts) {
    ++counts[fact->answer];
    if (!fact->senses) continue;
    const Senses needed = *fact->senses;
    (needed == kBothSenses ? figures.both
     : needed.picture      ? figures.picture
     : needed.sound        ? figures.sound
                           : figures.either) += each;
  }
  figures.answers = counts.size();
  for (const auto& [answer, count] : counts) {
    const double share = static_cast<double>(count) * each;
    figures.entropy -= share * std::log2(share);
    if (share <= figures.best_constant_share) continue;
    figures.best_constant_share = share;
    figures.best_constant = answer;
  }
  return figures;
}

std::string fixed(double value, int digits) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  return text.data();
}
std::string percent(double share) {
  return fixed(100 * share, 1) + " %";
}

}  // namespace

Result<std::vector<SynthFigures>> synthetic_figures(const SynthOptions& options, int threads) {
  const std::vector<SynthRequest> requests = synthetic_requests(options);
  const auto facts = collect(requests, threads);
  if (!facts) return fail(facts.error());
  std::vector<SynthFigures> figures;
  for (DatasetRow row = 0; row < datasets().size(); ++row) {
    std::vector<const Fact*> all;
    std::map<std::string, std::vector<const Fact*>> by_type;
    for (std::size_t at = 0; at < requests.size(); ++at) {
      if (requests[at].dataset != row) continue;
      const Fact& fact = (*facts)[at];
      all.push_back(&fact);
      if (!fact.type.empty()) by_type[fact.type].push_back(&fact);
    }
    if (all.empty()) continue;
    const std::string id(datasets()[row].id);
    figures.push_back(summarize(id, all));
    for (const auto& [type, some] : by_type) figures.push_back(summarize(id + ": " + type, some));
  }
  return figures;
}

std::string figures_text(const std::vector<SynthFigures>& figures) {
  std::string text =
      "| data set | samples | answers | entropy, bits | best constant answer | both | picture | "
      "sound | either |\n|---|---|---|---|---|---|---|---|---|\n";
  for (const SynthFigures& f : figures) {
    const bool told = f.both + f.picture + f.sound + f.either > 0;
    const auto share = [told](double value) { return told ? percent(value) : std::string("-"); };
    text += "| " + f.name + " | " + std::to_string(f.samples) + " | " + std::to_string(f.answers) +
            " | " + fixed(f.entropy, 2) + " | " + percent(f.best_constant_share) + " | " +
            share(f.both) + " | " + share(f.picture) + " | " + share(f.sound) + " | " +
            share(f.either) + " |\n";
  }
  return text;
}

std::string figures_json(const std::vector<SynthFigures>& figures) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const SynthFigures& f : figures)
    list.push_back(
        {{"name", f.name},
         {"samples", f.samples},
         {"answers", f.answers},
         {"entropy_bits", f.entropy},
         {"best_constant", f.best_constant},
         {"best_constant_share", f.best_constant_share},
         {"needs",
          {{"both", f.both}, {"picture", f.picture}, {"sound", f.sound}, {"either", f.either}}}});
  return list.dump(2);
}

}  // namespace crabcast::data
