#include "data/inspect.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>
#include <unordered_map>
#include <unordered_set>

#include "data/corpus_row.h"
#include "data/inspect_media.h"
#include "data/row_scan.h"
#include "protocol/checksum.h"

namespace crabcast::data {
namespace {

namespace fs = std::filesystem;

std::uint64_t hash_of(std::string_view text) {
  return checksum64(std::as_bytes(std::span(text)));
}

const fs::path& clip_of(const Sample& sample) {
  return !sample.video.empty() ? sample.video : !sample.image.empty() ? sample.image : sample.audio;
}

// Walks the rows of one corpus; what they share across files is kept by hash.
class Inspector {
 public:
  Inspector(const fs::path& folder, bool media) : folder_(folder), media_(media) {}

  DatasetInspection look_at(DatasetRow dataset, std::size_t number) {
    DatasetInspection out;
    out.dataset = dataset;
    number_ = number;
    const auto place = folder_ / datasets()[dataset].id;
    const auto train = place / "train.json", test = place / "test.json";
    std::error_code error;
    const bool has_test = fs::exists(test, error);
    const auto train_rows = count_rows(train, out);
    const auto test_rows = has_test ? count_rows(test, out) : 0;
    if (train_rows == 0 && out.problems.empty())
      out.problems.push_back({train.string(), 0, "the data set is empty"});
    const auto held_out = has_test ? 0 : held_out_rows(train_rows);
    out.held_out = held_out > 0;
    out.train = train_rows - held_out;
    out.test = test_rows + held_out;
    look_at_rows(train, RowFields::train, out.train, out);
    if (has_test) look_at_rows(test, RowFields::test, 0, out);
    return out;
  }

  [[nodiscard]] const std::vector<ClipFile>& clips() const { return clips_; }

 private:
  // The rows up to the end, or to where the file is no list of rows any more.
  static std::uint64_t count_rows(const fs::path& file, DatasetInspection& out) {
    std::uint64_t rows = 0;
    const auto scanned = scan_rows(file, [&](const RowText&) -> Status {
      ++rows;
      return {};
    });
    if (!scanned) out.problems.push_back({file.string(), 0, scanned.error().message});
    return rows;
  }

  // The first `train_rows` rows are of the training split, those after them of the test split.
  void look_at_rows(const fs::path& file, RowFields fields, std::uint64_t train_rows,
                    DatasetInspection& out) {
    std::uint64_t at = 0;
    // What ends the scan early is among the problems already.
    (void)scan_rows(file, [&](const RowText& row) -> Status {
      const auto split = at < train_rows ? Split::train : Split::test;
      const auto index = split == Split::train ? at : at - train_rows;
      ++at;
      const auto problem = [&](std::string message) {
        out.problems.push_back({file.string(), row.line, std::move(message)});
      };
      auto sample = read(file, row, {out.dataset, fields, split, index});
      if (!sample) {
        if (out.broken_rows++ < kListedProblems) problem(sample.error().message);
        return {};
      }
      look_for_files(*sample, problem, out);
      look_for_twins(row, *sample, split, problem, out);
      if (media_ && paths_.insert(hash_of(clip_of(*sample).string())).second)
        clips_.push_back({clip_of(*sample), number_, split, file.string(), row.line});
      if (!out.example && split == Split::train) out.example = std::move(*sample);
      return {};
    });
  }

  [[nodiscard]] Result<Sample> read(const fs::path& file, const RowText& row,
                                    const RowPlace& place) const {
    if (auto whole = check_row(file, row); !whole) {
      const auto& message = whole.error().message;  // "FILE:LINE:COLUMN: broken JSON: ..."
      return fail(Errc::data_error, message.substr(message.find("broken JSON")));
    }
    try {
      return sample_of_row(nlohmann::json::parse(row.text), place, folder_);
    } catch (const std::exception& error) {  // memory, or a text that is no UTF-8
      return fail(Errc::data_error, error.what());
    }
  }

  template <class Problem>
  static void look_for_files(const Sample& sample, const Problem& problem, DatasetInspection& out) {
    auto files = media_files(sample);
    if (!sample.mask.empty()) files.push_back(&sample.mask);
    for (const auto* file : files) {
      std::error_code error;
      if (fs::is_regular_file(*file, error)) continue;
      if (out.missing_files++ < kListedProblems) problem("the file is missing: " + file->string());
    }
  }

  // Rows that say the same as an earlier one, and clips that are in both splits.
  template <class Problem>
  void look_for_twins(const RowText& row, const Sample& sample, Split split, const Problem& problem,
                      DatasetInspection& out) {
    if (!rows_.insert(hash_of(row.text)).second && out.repeated_rows++ < kListedProblems)
      problem("the row is equal to an earlier one");
    const auto path = clip_of(sample).string();
    const auto seen = clip_splits_.emplace(hash_of(path), split);
    if (!seen.second && seen.first->second != split) {
      if (out.leaking_clips++ < kListedProblems)
        problem(path + " is in the training and in the test split");
    }
  }

  const fs::path& folder_;
  const bool media_;
  std::size_t number_ = 0;
  std::unordered_map<std::uint64_t, Split> clip_splits_;  // by hash of the path
  std::unordered_set<std::uint64_t> rows_, paths_;        // by hash
  std::vector<ClipFile> clips_;
};

}  // namespace

Result<CorpusInspection> inspect_corpus(const fs::path& folder, const InspectOptions& options) {
  try {
    std::error_code error;
    if (!fs::is_directory(folder, error))
      return fail(Errc::not_found, "there is no corpus folder " + folder.string());
    CorpusInspection out;
    out.folder = fs::absolute(folder).lexically_normal();
    out.media = options.media;
    Inspector inspector(out.folder, options.media);
    for (DatasetRow row = 0; row < data::datasets().size(); ++row) {
      if (fs::exists(out.folder / data::datasets()[row].id, error))
        out.datasets.push_back(inspector.look_at(row, out.datasets.size()));
      else if (!is_optional(data::datasets()[row].task))
        out.absent.emplace_back(data::datasets()[row].id);
    }
    for (const auto& entry : fs::directory_iterator(out.folder, error))
      if (const auto name = entry.path().filename().string();
          entry.is_directory(error) && find_dataset(name) == nullptr)
        out.unknown.push_back(name);
    std::sort(out.unknown.begin(), out.unknown.end());
    if (out.datasets.empty())
      return fail(Errc::not_found, folder.string() +
                                       " holds none of the known data sets, for "
                                       "example " +
                                       std::string(data::datasets().front().id) + "/train.json");
    if (options.media) inspect_media(inspector.clips(), options, out.datasets);
    return out;
  } catch (const std::exception& error) {
    return fail(Errc::data_error, folder.string() + ": " + error.what());
  }
}

}  // namespace crabcast::data
