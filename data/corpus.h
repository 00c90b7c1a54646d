// An AV-UIE v2 folder: JSON rows to samples, samples to tensors.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "data/datasets.h"
#include "model/tokenizer.h"
#include "protocol/error.h"
#include "protocol/tasks.h"

namespace crabcast::data {

enum class Split { train, test };

// What one JSON row says, with media paths made absolute (never outside the corpus folder unless
// the row itself is absolute).
struct Sample {
  DatasetRow dataset = 0;
  std::uint64_t index = 0;
  Task task{};
  std::filesystem::path video;  // empty: none
  std::filesystem::path image;
  std::filesystem::path audio;
  std::filesystem::path second_video, second_audio;  // of av_matching; empty: none
  std::filesystem::path mask;           // ground truth of a segmentation test row; empty: none
  int frame_index = 0;                  // at_frame_index windows
  std::string question;                 // instruction and question, without the answer
  std::string target;                   // training text: reasoning and final answer
  std::string reference;                // what a score compares with (data/answers.h)
  std::vector<std::string> references;  // captions may have several
};

// Those that it has of video, image and audio, in the order in which its prompt shows them.
std::vector<const std::filesystem::path*> media_files(const Sample& sample);

struct DatasetSummary {
  DatasetRow dataset = 0;
  std::uint64_t train = 0, test = 0;
  std::uint64_t train_hash = 0, test_hash = 0;  // of the rows of train.json and test.json; 0: none
};

// Thread-safe: const after open.
class Corpus {
 public:
  // Reads the JSON files once, into an index in the folder `cache`, which is made; opened again,
  // and unchanged, a corpus of any size takes milliseconds and little memory (data/corpus_index.h).
  // not_found: no such folder or no known data set in it; data_error: broken JSON (file and line),
  // an empty data set (named). An absent data set is allowed while each chosen task has one.
  // `progress` is called again and again while the index is built, or waited for.
  static Result<std::unique_ptr<Corpus>> open(const std::filesystem::path& folder,
                                              const std::vector<std::string>& tasks,
                                              const std::filesystem::path& cache,
                                              const std::function<void()>& progress = {});
  virtual ~Corpus() = default;
  [[nodiscard]] virtual const std::filesystem::path& folder() const = 0;
  [[nodiscard]] virtual const std::vector<DatasetSummary>& summary() const = 0;
  // XXH3 over all rows: equal fingerprints, equal samples.
  [[nodiscard]] virtual std::uint64_t fingerprint() const = 0;
  // Reads the row from its file. `wording` chooses among the paraphrases of the instruction: the
  // same number, the same words. data_error names file, row and line.
  [[nodiscard]] virtual Result<Sample> sample(DatasetRow dataset, Split split, std::uint64_t index,
                                              std::uint64_t wording = 0) const = 0;
};

}  // namespace crabcast::data
