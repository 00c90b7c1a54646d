#include "data/inspect.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "data/corpus_row.h"
#include "data/row_file.h"

namespace crabcast::data {
namespace {

namespace fs = std::filesystem;

// Listed problems of one kind in one data set; more of them are counted only.
constexpr std::uint64_t kListed = 5;

void look_for_files(const Sample& sample, const RowFile& file, std::uint64_t row,
                    DatasetInspection& out) {
  for (const auto& path : {sample.video, sample.image, sample.audio, sample.mask}) {
    std::error_code error;
    if (path.empty() || fs::is_regular_file(path, error)) continue;
    if (out.missing_files++ < kListed)
      out.problems.push_back(
          {file.path().string(), file.line(row), "the file is missing: " + path.string()});
  }
}

// The rows [first, last) of a file, as samples of a split.
void look_at_rows(const RowFile& file, RowFields fields, Split split, std::uint64_t first,
                  std::uint64_t last, const fs::path& folder, DatasetInspection& out) {
  for (std::uint64_t row = first; row < last; ++row) {
    auto json = file.row(row);
    auto sample = json ? sample_of_row(*json, out.dataset, fields, split, row - first, folder)
                       : Result<Sample>(fail(json.error()));
    if (sample) {
      look_for_files(*sample, file, row, out);
      if (!out.example && split == Split::train) out.example = std::move(sample).value();
    } else if (out.broken_rows++ < kListed) {
      out.problems.push_back({file.path().string(), file.line(row), sample.error().message});
    }
  }
}

std::optional<RowFile> open_rows(const fs::path& path, DatasetInspection& out) {
  auto file = RowFile::open(path);
  if (file) return std::move(file).value();
  out.problems.push_back({path.string(), 0, file.error().message});
  return std::nullopt;
}

DatasetInspection look_at(DatasetRow dataset, const fs::path& folder) {
  DatasetInspection out;
  out.dataset = dataset;
  const auto place = folder / datasets()[dataset].id;
  const auto train = open_rows(place / "train.json", out);
  std::error_code error;
  const bool has_test = fs::exists(place / "test.json", error);
  const auto test = has_test ? open_rows(place / "test.json", out) : std::nullopt;
  if (train) {
    if (train->size() == 0)
      out.problems.push_back({train->path().string(), 0, "the data set is empty"});
    const auto held_out = has_test ? 0 : held_out_rows(train->size());
    out.train = train->size() - held_out;
    look_at_rows(*train, RowFields::train, Split::train, 0, out.train, folder, out);
    if (held_out > 0) {
      out.held_out = true;
      out.test = held_out;
      look_at_rows(*train, RowFields::train, Split::test, out.train, train->size(), folder, out);
    }
  }
  if (test) {
    out.test = test->size();
    look_at_rows(*test, RowFields::test, Split::test, 0, test->size(), folder, out);
  }
  return out;
}

std::string_view id_of(const DatasetInspection& one) {
  return datasets()[one.dataset].id;
}
std::string_view task_of(const DatasetInspection& one) {
  return task_name(datasets()[one.dataset].task);
}

std::string table_row(std::string_view a, std::string_view b, const std::string& train,
                      const std::string& test, const std::string& broken,
                      const std::string& missing) {
  std::array<char, 160> line{};
  std::snprintf(line.data(), line.size(), "%-22.*s  %-9.*s  %9s  %8s  %7s  %7s\n",
                static_cast<int>(a.size()), a.data(), static_cast<int>(b.size()), b.data(),
                train.c_str(), test.c_str(), broken.c_str(), missing.c_str());
  return line.data();
}

std::string shortened(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  constexpr std::size_t kLongest = 160;
  if (text.size() <= kLongest) return text;
  std::size_t cut = kLongest;
  while ((static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) --cut;  // not inside a letter
  return text.substr(0, cut) + "...";
}

}  // namespace

bool CorpusInspection::clean() const {
  return std::all_of(datasets.begin(), datasets.end(),
                     [](const auto& one) { return one.problems.empty(); });
}

std::string CorpusInspection::text() const {
  std::string out = "corpus " + folder.string() + "\n\n" +
                    table_row("task", "data set", "train", "test", "broken", "missing");
  std::uint64_t train = 0, test = 0, broken = 0, missing = 0;
  bool held_out = false;
  for (const auto& one : datasets) {
    out += table_row(task_of(one), id_of(one), std::to_string(one.train),
                     std::to_string(one.test) + (one.held_out ? "*" : " "),
                     std::to_string(one.broken_rows), std::to_string(one.missing_files));
    train += one.train, test += one.test;
    broken += one.broken_rows, missing += one.missing_files;
    held_out = held_out || one.held_out;
  }
  out += table_row("all", "", std::to_string(train), std::to_string(test) + " ",
                   std::to_string(broken), std::to_string(missing));
  if (held_out) out += "* the last rows of train.json, kept for evaluation\n";
  const auto list = [&](const char* title, const std::vector<std::string>& names) {
    if (names.empty()) return;
    out += std::string("\n") + title;
    for (const auto& name : names) out += " " + name;
    out += "\n";
  };
  list("absent:", absent);
  list("not known, left out:", unknown);

  if (!clean()) out += "\nproblems\n";
  for (const auto& one : datasets)
    for (const auto& problem : one.problems)
      out += "  " + problem.file +
             (problem.line > 0 ? ":" + std::to_string(problem.line) : std::string()) + ": " +
             problem.message + "\n";

  out += "\nexamples\n";
  for (const auto& one : datasets)
    if (one.example)
      out += "  " + std::string(id_of(one)) + "\n    asks    " + shortened(one.example->question) +
             "\n    expects " + shortened(one.example->target) + "\n";
  return out;
}

std::string CorpusInspection::json() const {
  using nlohmann::ordered_json;
  ordered_json list = ordered_json::array();
  for (const auto& one : datasets) {
    ordered_json problems = ordered_json::array();
    for (const auto& problem : one.problems)
      problems.push_back(
          {{"file", problem.file}, {"line", problem.line}, {"message", problem.message}});
    ordered_json entry = {{"dataset", id_of(one)},
                          {"task", task_of(one)},
                          {"train", one.train},
                          {"test", one.test},
                          {"test_held_out_of_train", one.held_out},
                          {"broken_rows", one.broken_rows},
                          {"missing_files", one.missing_files},
                          {"problems", std::move(problems)}};
    if (one.example)
      entry["example"] = {{"question", one.example->question},
                          {"target", one.example->target},
                          {"reference", one.example->reference}};
    list.push_back(std::move(entry));
  }
  const ordered_json all = {{"folder", folder.string()},
                            {"clean", clean()},
                            {"datasets", std::move(list)},
                            {"absent", absent},
                            {"unknown", unknown}};
  // File names need not be UTF-8: such bytes are replaced.
  return all.dump(2, ' ', false, ordered_json::error_handler_t::replace);
}

Result<CorpusInspection> inspect_corpus(const fs::path& folder) {
  try {
    std::error_code error;
    if (!fs::is_directory(folder, error))
      return fail(Errc::not_found, "there is no corpus folder " + folder.string());
    CorpusInspection out;
    out.folder = fs::absolute(folder).lexically_normal();
    for (DatasetRow row = 0; row < data::datasets().size(); ++row) {
      if (fs::exists(out.folder / data::datasets()[row].id, error))
        out.datasets.push_back(look_at(row, out.folder));
      else
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
    return out;
  } catch (const std::exception& error) {
    return fail(Errc::data_error, folder.string() + ": " + error.what());
  }
}

}  // namespace crabcast::data
