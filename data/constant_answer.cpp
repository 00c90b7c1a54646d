#include "data/constant_answer.h"

#include <algorithm>
#include <set>
#include <sstream>
#include <vector>

#include "data/answers.h"

namespace crabcast::data {
namespace {

constexpr std::size_t kMostRows = 512;
constexpr const char* kNone = "none";

Result<std::vector<Sample>> training_samples(const Corpus& corpus, Task task) {
  std::uint64_t rows = 0;
  for (const DatasetSummary& summary : corpus.summary())
    if (datasets()[summary.dataset].task == task) rows += summary.train;
  const std::uint64_t stride = std::max<std::uint64_t>(1, (rows + kMostRows - 1) / kMostRows);
  std::vector<Sample> samples;
  for (const DatasetSummary& summary : corpus.summary()) {
    if (datasets()[summary.dataset].task != task) continue;
    for (std::uint64_t i = 0; i < summary.train; i += stride) {
      auto sample = corpus.sample(summary.dataset, Split::train, i);
      if (!sample) return fail(sample.error());
      samples.push_back(std::move(*sample));
    }
  }
  return samples;
}

// A training sample's score; one whose row does not follow the grammar counts 0 for every answer.
double score(const Sample& sample, const std::string& answer) {
  if (sample.task == Task::segmentation) {
    const auto truth = first_box(final_answer(sample.target)), box = first_box(answer);
    if (!truth || !box) return truth.has_value() == box.has_value() ? 1 : 0;
    return box_iou(*truth, *box);
  }
  const auto scored = score_answer(sample, answer);
  return scored ? scored->value : 0;
}

class Search {
 public:
  explicit Search(std::vector<Sample> samples) : samples_(std::move(samples)) {}

  void consider(const std::string& answer) {
    if (!tried_.insert(answer).second) return;
    double sum = 0;
    for (const Sample& sample : samples_) sum += score(sample, answer);
    if (sum <= best_score_) return;
    best_score_ = sum;
    best_ = answer;
  }
  [[nodiscard]] const std::string& best() const { return best_; }
  [[nodiscard]] const std::vector<Sample>& samples() const { return samples_; }

 private:
  std::vector<Sample> samples_;
  std::set<std::string> tried_;
  std::string best_;
  double best_score_ = -1;
};

void consider_boxes(Search& search) {
  constexpr int kSide = 224, kStep = 28;
  const auto consider = [&](const Box& box) { search.consider(format_box(box)); };
  for (const Sample& sample : search.samples())
    if (const auto box = first_box(final_answer(sample.target))) consider(*box);
  for (int left = 0; left < kSide; left += kStep)
    for (int top = 0; top < kSide; top += kStep)
      for (int right = left + kStep; right <= kSide; right += kStep)
        for (int bottom = top + kStep; bottom <= kSide; bottom += kStep)
          consider({double(left), double(top), right - 1.0, bottom - 1.0});
}

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

// The metric does not ask for an order of words.
void improve_sentence(Search& search) {
  std::set<std::string> vocabulary;
  for (const Sample& sample : search.samples())
    for (std::string& word : words_of(final_answer(sample.target))) vocabulary.insert(word);
  for (std::string before; before != search.best();) {
    before = search.best();
    const std::vector<std::string> words = words_of(before);
    for (const std::string& word : vocabulary) search.consider(before + " " + word);
    for (std::size_t i = 0; i < words.size(); ++i) {
      std::vector<std::string> fewer = words;
      fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
      search.consider(joined(fewer));
    }
  }
}

}  // namespace

Result<std::string> best_constant_answer(const Corpus& corpus, Task task) {
  auto samples = training_samples(corpus, task);
  if (!samples) return fail(samples.error());
  if (samples->empty())
    return fail(Errc::data_error,
                "the corpus has no training row of " + std::string(task_name(task)));
  Search search(std::move(*samples));
  if (task == Task::segmentation || task == Task::temporal_localization) search.consider(kNone);
  if (task == Task::segmentation || task == Task::spatial_localization) {
    consider_boxes(search);
    return search.best();
  }
  for (const Sample& sample : search.samples()) search.consider(final_answer(sample.target));
  if (task == Task::captioning) improve_sentence(search);
  return search.best();
}

}  // namespace crabcast::data
