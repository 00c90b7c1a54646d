// What a corpus folder holds and what is wrong with it: `crabcast data inspect`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/corpus.h"
#include "protocol/error.h"

namespace crabcast::data {

struct InspectProblem {
  std::string file;        // a train.json or test.json
  std::uint64_t line = 0;  // where the row begins, from 1; 0: the whole file
  std::string message;
};

struct DatasetInspection {
  DatasetRow dataset = 0;
  std::uint64_t train = 0, test = 0;  // samples
  bool held_out = false;              // test samples are the last rows of train.json
  std::uint64_t broken_rows = 0;      // rows that make no sample
  std::uint64_t missing_files = 0;  // media files, or masks, that rows name and that are not there
  std::vector<InspectProblem> problems;  // the first of each kind
  std::optional<Sample> example;         // the first training sample
};

struct CorpusInspection {
  std::filesystem::path folder;
  std::vector<DatasetInspection> datasets;  // those that are there, in the order of the table
  std::vector<std::string> absent;          // known data sets without a folder
  std::vector<std::string> unknown;         // folders that are no known data set

  [[nodiscard]] bool clean() const;
  [[nodiscard]] std::string text() const;  // a table, the problems, an example of each task
  [[nodiscard]] std::string json() const;
};

// Reads every row of every data set and looks whether its files are there; decodes nothing.
// not_found: no such folder, or none of the known data sets in it. All else is in the report.
Result<CorpusInspection> inspect_corpus(const std::filesystem::path& folder);

}  // namespace crabcast::data
