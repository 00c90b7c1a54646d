#include "data/corpus.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <map>
#include <set>

#include "data/corpus_index.h"
#include "data/corpus_row.h"
#include "protocol/job_spec.h"

namespace crabcast::data {
namespace {

namespace fs = std::filesystem;

struct Member {
  const IndexedFile* train = nullptr;
  const IndexedFile* test = nullptr;  // null: the last rows of `train` are the test split
  std::uint64_t train_rows = 0;       // without those held out

  [[nodiscard]] std::uint64_t test_rows() const {
    return test != nullptr ? test->rows : train->rows - train_rows;
  }
};

class FolderCorpus final : public Corpus {
 public:
  FolderCorpus(fs::path folder, std::unique_ptr<CorpusIndex> index)
      : folder_(std::move(folder)), index_(std::move(index)) {}

  Status add(DatasetRow dataset) {
    const auto& table = datasets()[dataset];
    const auto place = folder_ / table.id;
    std::error_code error;
    if (!fs::exists(place, error)) return {};
    const auto* train = index_->file(dataset, JsonFile::train);
    const auto* test = index_->file(dataset, JsonFile::test);
    if (train == nullptr)
      return fail(Errc::data_error, "the data set " + std::string(table.id) + " has no " +
                                        (place / "train.json").string() +
                                        "; add it or remove the folder");
    for (const auto* file : {train, test})
      if (file != nullptr && file->problem) return fail(*file->problem);
    if (train->rows == 0)
      return fail(Errc::data_error, "the data set " + std::string(table.id) +
                                        " is empty: " + train->path.string() +
                                        " has no rows; fill it or remove the folder");

    Member member{train, test, 0};
    member.train_rows = train->rows - (test != nullptr ? 0 : held_out_rows(train->rows));
    summary_.push_back({dataset, member.train_rows, member.test_rows(), train->hash,
                        test != nullptr ? test->hash : 0});
    members_.emplace(dataset, member);
    // A wrong layout shows in the first row; finding it now saves a run that fails everywhere.
    if (auto first = sample(dataset, Split::train, 0, 0); !first) return fail(first.error());
    if (summary_.back().test > 0)
      if (auto first = sample(dataset, Split::test, 0, 0); !first) return fail(first.error());
    return {};
  }

  void finish() {
    std::vector<std::uint64_t> parts;
    for (const auto& [dataset, member] : members_)
      parts.insert(parts.end(),
                   {dataset, member.train->hash, member.train->rows, member.train_rows,
                    member.test != nullptr ? member.test->hash : 0, member.test_rows()});
    fingerprint_ = XXH3_64bits(parts.data(), parts.size() * sizeof(parts[0]));
  }

  [[nodiscard]] const fs::path& folder() const override { return folder_; }
  [[nodiscard]] const std::vector<DatasetSummary>& summary() const override { return summary_; }
  [[nodiscard]] std::uint64_t fingerprint() const override { return fingerprint_; }

  [[nodiscard]] Result<Sample> sample(DatasetRow dataset, Split split, std::uint64_t index,
                                      std::uint64_t wording) const override {
    const auto found = members_.find(dataset);
    if (found == members_.end())
      return fail(Errc::invalid_argument, "the corpus has no data set number " +
                                              std::to_string(dataset) + " among the chosen tasks");
    const Member& member = found->second;
    const auto rows = split == Split::train ? member.train_rows : member.test_rows();
    const std::string name(datasets()[dataset].id);
    if (index >= rows)
      return fail(Errc::invalid_argument, name + (split == Split::train ? "/train" : "/test") +
                                              " has " + std::to_string(rows) + " samples; number " +
                                              std::to_string(index) + " was asked for");
    const bool own_file = split == Split::test && member.test != nullptr;
    const auto which = own_file ? JsonFile::test : JsonFile::train;
    const auto path = (own_file ? member.test : member.train)->path.string();
    const auto place = split == Split::test && !own_file ? member.train_rows + index : index;
    try {
      auto row = index_->row(dataset, which, place);
      if (!row) return fail(row.error());
      const auto fields = own_file ? RowFields::test : RowFields::train;
      auto sample = sample_of_row(*row, {dataset, fields, split, index, wording}, folder_);
      if (!sample)
        return fail(sample.error().within(path + ": row " + std::to_string(place) + " (line " +
                                          std::to_string(index_->line(dataset, which, place)) +
                                          ")"));
      return sample;
    } catch (const std::exception& error) {  // memory, or a text that is no UTF-8
      return fail(Errc::data_error, path + ": row " + std::to_string(place) + ": " + error.what());
    }
  }

 private:
  fs::path folder_;
  std::unique_ptr<CorpusIndex> index_;
  std::map<DatasetRow, Member> members_;
  std::vector<DatasetSummary> summary_;
  std::uint64_t fingerprint_ = 0;
};

Result<std::set<Task>> chosen_tasks(const std::vector<std::string>& names) {
  std::set<Task> tasks;
  for (const auto& name : names) {
    if (name == "all") {
      for (const auto& one : every_task()) tasks.insert(*task_from_name(one));
    } else if (const auto task = task_from_name(name)) {
      tasks.insert(*task);
    } else {
      return fail(Errc::invalid_argument, "there is no task \"" + name + "\"");
    }
  }
  if (tasks.empty()) return fail(Errc::invalid_argument, "no task was chosen");
  return tasks;
}

std::string ids_of(Task task) {
  std::string all;
  for (const auto& table : datasets())
    if (table.task == task) all += (all.empty() ? "" : ", ") + std::string(table.id);
  return all;
}

Result<std::unique_ptr<Corpus>> open_folder(const fs::path& folder,
                                            const std::vector<std::string>& names,
                                            const fs::path& cache,
                                            const std::function<void()>& progress) {
  auto tasks = chosen_tasks(names);
  if (!tasks) return fail(tasks.error());
  std::error_code error;
  if (!fs::is_directory(folder, error))
    return fail(Errc::not_found, "there is no corpus folder " + folder.string() +
                                     "; check data.corpus, or make one with crabcast data synth");
  auto index = CorpusIndex::open(folder, cache, progress);
  if (!index) return fail(index.error());
  auto corpus =
      std::make_unique<FolderCorpus>(fs::absolute(folder).lexically_normal(), std::move(*index));
  for (DatasetRow row = 0; row < datasets().size(); ++row)
    if (tasks->contains(datasets()[row].task)) CRABCAST_TRY(corpus->add(row));
  if (corpus->summary().empty())
    return fail(Errc::not_found, folder.string() +
                                     " holds none of the data sets of the chosen "
                                     "tasks, for example " +
                                     std::string(datasets().front().id) + "/train.json");
  for (const Task task : *tasks) {
    const auto of_task = [&](const auto& one) { return datasets()[one.dataset].task == task; };
    if (std::none_of(corpus->summary().begin(), corpus->summary().end(), of_task))
      return fail(Errc::data_error, folder.string() + " holds no data set of the task " +
                                        std::string(task_name(task)) + " (" + ids_of(task) +
                                        "); add one, or leave the task out of data.tasks");
  }
  corpus->finish();
  return corpus;
}

}  // namespace

std::vector<const fs::path*> media_files(const Sample& sample) {
  std::vector<const fs::path*> files = {&sample.video, &sample.second_video, &sample.image,
                                        &sample.audio, &sample.second_audio};
  std::erase_if(files, [](const fs::path* file) { return file->empty(); });
  return files;
}

Result<std::unique_ptr<Corpus>> Corpus::open(const fs::path& folder,
                                             const std::vector<std::string>& tasks,
                                             const fs::path& cache,
                                             const std::function<void()>& progress) {
  try {
    return open_folder(folder, tasks, cache, progress);
  } catch (const std::exception& error) {
    return fail(Errc::data_error, folder.string() + ": " + error.what());
  }
}

}  // namespace crabcast::data
