// What a corpus folder holds and what is wrong with it: `crabcast data inspect`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
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

// A clip is what a row shows: its video, its picture, or else its sound.
struct DatasetInspection {
  DatasetRow dataset = 0;
  std::uint64_t train = 0, test = 0;  // samples
  bool held_out = false;              // test samples are the last rows of train.json
  std::uint64_t broken_rows = 0;      // rows that make no sample
  std::uint64_t missing_files = 0;  // media files, or masks, that rows name and that are not there
  std::uint64_t repeated_rows = 0;  // rows that are equal to one before
  std::uint64_t leaking_clips = 0;  // clips of the test split that training shows, too
  // Only when media are looked at:
  double seconds = 0;                // of the clips' sound and video
  std::uint64_t unreadable = 0;      // clips whose container cannot be opened
  std::uint64_t copied_clips = 0;    // equal in every byte to a clip of another name
  std::uint64_t leaking_copies = 0;  // of these, test clips that training shows under another name
  std::vector<InspectProblem> problems;  // the first of each kind
  std::optional<Sample> example;         // the first training sample
};

struct CorpusInspection {
  std::filesystem::path folder;
  bool media = false;                       // whether media were looked at
  std::vector<DatasetInspection> datasets;  // those that are there, in the order of the table
  std::vector<std::string> absent;          // known data sets without a folder, optional ones aside
  std::vector<std::string> unknown;         // folders that are no known data set

  [[nodiscard]] bool clean() const;
  [[nodiscard]] std::string text() const;  // a table, the problems, an example of each task
  [[nodiscard]] std::string json() const;
};

struct InspectOptions {
  // Also opens each clip for its length and reads it through for its checksum; decodes nothing.
  bool media = false;
  int threads = 1;
  // Called from the calling thread, now and then, while media are looked at.
  std::function<void(std::uint64_t done, std::uint64_t total)> progress;
};

// Reads every row of every data set and looks whether its files are there. Memory: some 50 bytes a
// row, with media the paths as well. not_found: no such folder, or none of the known data sets in
// it. All else is in the report.
Result<CorpusInspection> inspect_corpus(const std::filesystem::path& folder,
                                        const InspectOptions& options = {});

}  // namespace crabcast::data
