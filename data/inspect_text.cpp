// How an inspection is told.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/inspect.h"
#include "protocol/format.h"
#include "protocol/tasks.h"

namespace crabcast::data {
namespace {

std::string_view id_of(const DatasetInspection& one) {
  return datasets()[one.dataset].id;
}
std::string_view task_of(const DatasetInspection& one) {
  return task_name(datasets()[one.dataset].task);
}

using Row = std::vector<std::string>;

// Sums over data sets. A star marks test samples that are the last rows of train.json.
Row table_row(const std::string& task, const std::string& name,
              const std::vector<const DatasetInspection*>& of, bool media) {
  const auto sum = [&](std::uint64_t DatasetInspection::*field) {
    std::uint64_t all = 0;
    for (const auto* one : of) all += one->*field;
    return std::to_string(all);
  };
  const bool held_out = of.size() == 1 && of.front()->held_out;
  Row row = {task,
             name,
             sum(&DatasetInspection::train),
             sum(&DatasetInspection::test) + (held_out ? "*" : ""),
             sum(&DatasetInspection::broken_rows),
             sum(&DatasetInspection::missing_files),
             sum(&DatasetInspection::repeated_rows),
             sum(&DatasetInspection::leaking_clips)};
  if (!media) return row;
  double seconds = 0;
  for (const auto* one : of) seconds += one->seconds;
  row.insert(row.end(),
             {format_duration(seconds), sum(&DatasetInspection::unreadable),
              sum(&DatasetInspection::copied_clips), sum(&DatasetInspection::leaking_copies)});
  return row;
}

// Each data set, each task with several of them, and all.
std::string table_text(const CorpusInspection& report) {
  Row header = {"TASK", "DATA SET", "TRAIN", "TEST", "BROKEN", "MISSING", "REPEATED", "LEAKING"};
  if (report.media)
    header.insert(header.end(), {"LENGTH", "UNREADABLE", "COPIES", "LEAKING COPIES"});
  std::vector<Row> rows;
  std::vector<const DatasetInspection*> all;
  for (std::size_t i = 0; i < kTaskCount; ++i) {
    std::vector<const DatasetInspection*> of_task;
    for (const auto& one : report.datasets)
      if (task_of(one) == kTaskNames.at(i)) of_task.push_back(&one);
    const std::string task(kTaskNames.at(i));
    for (const auto* one : of_task)
      rows.push_back(table_row(task, std::string(id_of(*one)), {one}, report.media));
    if (of_task.size() > 1) rows.push_back(table_row(task, "all", of_task, report.media));
    all.insert(all.end(), of_task.begin(), of_task.end());
  }
  rows.push_back(table_row("all", "all", all, report.media));
  const bool held_out = std::ranges::any_of(report.datasets, &DatasetInspection::held_out);
  return format_table(header, rows) +
         (held_out ? "* the last rows of train.json, kept for evaluation\n" : "");
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
  std::string out = "corpus " + folder.string() + "\n\n" + table_text(*this);
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
                          {"repeated_rows", one.repeated_rows},
                          {"leaking_clips", one.leaking_clips},
                          {"problems", std::move(problems)}};
    if (media)
      entry.update({{"seconds", one.seconds},
                    {"unreadable", one.unreadable},
                    {"copied_clips", one.copied_clips},
                    {"leaking_copies", one.leaking_copies}});
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

}  // namespace crabcast::data
