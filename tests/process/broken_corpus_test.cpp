// A whole job over a corpus in which hundreds of files are broken (S-2): it ends, exactly the good
// samples were trained, and each bad one is in quarantine once, with one clear reason.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/data/broken_media.h"
#include "tests/process/job_records.h"
#include "tests/process/small_job.h"

namespace crabcast::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr unsigned kSeed = 79;

enum class Fate { good, bad, either };  // either: damage that a decoder may not notice

// Training rows of one data set, good ones among the others.
class Rows {
 public:
  explicit Rows(const fs::path& folder) : folder_(folder) {
    for (const auto& row : json::parse(read_file(folder / "train.json"))) good_.push_back(row);
    add_good();
  }
  // A good row with something changed; `file`: what its reason names, empty for the row itself.
  void add(Fate fate, const json& change, const fs::path& file = {}) {
    auto row = good_[rows_.size() % good_.size()];
    row.update(change);
    rows_.push_back(row);
    fates_.push_back(fate);
    files_.push_back(file);
    if (rows_.size() % kBetween == 0) add_good();
  }
  void write() const { write_file(folder_ / "train.json", json(rows_).dump(1)); }

  [[nodiscard]] std::size_t size() const { return rows_.size(); }
  [[nodiscard]] Fate fate(std::uint64_t row) const { return fates_.at(row); }
  [[nodiscard]] const fs::path& file(std::uint64_t row) const { return files_.at(row); }

 private:
  static constexpr std::size_t kBetween = 10;
  void add_good() {
    rows_.push_back(good_[rows_.size() % good_.size()]);
    fates_.push_back(Fate::good);
    files_.emplace_back();
  }

  fs::path folder_;
  std::vector<json> good_, rows_;
  std::vector<Fate> fates_;
  std::vector<fs::path> files_;
};

// Names that no JSON can hold are reached through links.
void add_strange_names(Rows& films, const fs::path& folder, const GoodMedia& good) {
  const auto& bytes = good.file("film.mp4");
  write_file(folder / "\xFF\xFE good.mp4", {bytes.begin(), bytes.end()});
  write_file(folder / "\xFF\xFE bad.mp4", "this is no film");
  fs::create_symlink("\xFF\xFE good.mp4", folder / "link-good.mp4");
  fs::create_symlink("\xFF\xFE bad.mp4", folder / "link-bad.mp4");
  films.add(Fate::good, {{"video_path", (folder / "link-good.mp4").string()}});
  films.add(Fate::bad, {{"video_path", (folder / "link-bad.mp4").string()}},
            folder / "link-bad.mp4");
}

void add_bad_rows(Rows& films) {
  for (const char* path : {"../../../../../../etc/passwd", "../../../arig/../../x.mp4", ""})
    films.add(Fate::bad, {{"video_path", path}});
  films.add(Fate::bad, {{"video_path", std::string("a\0b", 3)}});
  films.add(Fate::bad, {{"audio_path", json::array({"a.mp3"})}});
  films.add(Fate::bad, {{"label", nullptr}});
}

TEST(BrokenCorpus, ExactlyTheGoodSamplesAreTrained) {
  const TemporaryFolder folder;
  const auto state = folder / "state", corpus = folder / "corpus";
  fs::create_directories(corpus);
  for (const char* set : {"ks", "arig"})
    fs::copy(shared_corpus() / set, corpus / set, fs::copy_options::recursive);
  Rows films(corpus / "ks"), pictures(corpus / "arig");
  const BrokenMedia media(folder / "broken", kSeed);
  for (const auto& file : media.files()) {
    const auto fate = file.must_fail ? Fate::bad : Fate::either;
    if (file.medium == Medium::image)
      pictures.add(fate, {{"image_path", file.path.string()}}, file.path);
    else
      films.add(fate,
                {{file.medium == Medium::video ? "video_path" : "audio_path", file.path.string()}},
                file.path);
  }
  add_strange_names(films, folder / "broken", media.good());
  add_bad_rows(films);
  films.write();
  pictures.write();
  const std::map<std::uint32_t, const Rows*> sets = {{0, &films}, {12, &pictures}};
  const auto all = films.size() + pictures.size();

  SmallJob job{.name = "broken", .checkpoint_every = 1000};
  job.corpus = corpus.string();
  job.tasks = "[action_recognition, spatial_localization]";
  job.mixture = "{policy: proportional}";  // an epoch of one is an epoch of the other
  job.bad_samples = 1;
  job.samples_per_lane = 4;
  job.steps = static_cast<int>(all / 16) + 2;
  const auto spec = folder / "job.yaml";
  write_file(spec, job.yaml());
  const auto done =
      run_program("crabcast", {"--state", state.string(), "run", spec.string()}, 600s);
  ASSERT_EQ(done.code, 0) << done.out << done.err;

  using Place = std::pair<std::uint32_t, std::uint64_t>;
  std::set<Place> trained;
  std::map<Place, pb::BadSample> bad;
  for (const auto& commit : ledger(state, "broken-1")) {
    for (const auto& one : commit.quarantined()) {
      const Place place{one.sample().dataset(), one.sample().index()};
      EXPECT_TRUE(bad.emplace(place, one).second) << "twice: " << one.reason();
    }
    for (const auto& sample : commit.samples()) {
      trained.emplace(sample.dataset(), sample.index());
      EXPECT_FALSE(bad.contains({sample.dataset(), sample.index()})) << "step " << commit.step();
    }
  }
  EXPECT_GE(bad.size(), 200U);
  for (const auto& [number, rows] : sets)
    for (std::uint64_t row = 0; row < rows->size(); ++row) {
      SCOPED_TRACE("data set " + std::to_string(number) + ", row " + std::to_string(row) + ", " +
                   rows->file(row).filename().string());
      const bool is_trained = trained.contains({number, row}), is_bad = bad.contains({number, row});
      EXPECT_NE(is_trained, is_bad);
      if (rows->fate(row) != Fate::either) EXPECT_EQ(is_trained, rows->fate(row) == Fate::good);
      if (!is_bad) continue;
      const auto& one = bad.at({number, row});
      if (rows->file(row).empty()) {
        EXPECT_EQ(one.stage(), "row") << one.reason();
        EXPECT_NE(one.reason().find("ks/train.json: row " + std::to_string(row)), std::string::npos)
            << one.reason();
        continue;
      }
      const auto code = one.stage() == "deadline" ? Errc::timeout : Errc::data_error;
      EXPECT_EQ(unclear({code, one.reason()}, rows->file(row)), "");
    }
}

}  // namespace
}  // namespace crabcast::testing
