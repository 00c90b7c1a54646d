// The index: built once, believed only when it is whole and nothing was changed since.
#include "data/corpus_index.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <functional>
#include <future>
#include <optional>
#include <set>
#include <sstream>
#include <thread>

#include "data/index_db.h"
#include "data/row_scan.h"
#include "tests/data/media_fixture.h"

namespace crabcast::data {
namespace {

namespace fs = std::filesystem;
using testing::TemporaryFolder;
using testing::write_text;

DatasetRow row_of(std::string_view id) {
  return static_cast<DatasetRow>(find_dataset(id) - datasets().data());
}

// What the log says while it lives.
class Log {
 public:
  Log() : before_(spdlog::default_logger()) {
    auto sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(text_);
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("test", sink));
  }
  ~Log() { spdlog::set_default_logger(before_); }
  [[nodiscard]] std::string text() const { return text_.str(); }

 private:
  std::ostringstream text_;
  std::shared_ptr<spdlog::logger> before_;
};

std::string rows_text(std::uint64_t rows, const std::string& word) {
  std::string text = "[";
  for (std::uint64_t i = 0; i < rows; ++i)
    text += (i == 0 ? "\n" : ",\n") + std::string("{\"label\": \"") + word + " " +
            std::to_string(i) + "\"}";
  return text + "\n]\n";
}

struct Folders {
  TemporaryFolder folder;
  fs::path corpus = folder / "corpus", cache = folder / "cache";

  void write(const std::string& file, std::uint64_t rows, const std::string& word = "row") const {
    write_text(corpus / file, rows_text(rows, word));
  }
  std::unique_ptr<CorpusIndex> open() const {
    auto index = CorpusIndex::open(corpus, cache);
    if (!index) throw std::runtime_error(index.error().message);
    return std::move(*index);
  }
  // The one folder of the cache.
  [[nodiscard]] fs::path place() const {
    for (const auto& entry : fs::directory_iterator(cache))
      if (entry.is_directory()) return entry.path();
    throw std::runtime_error("no index in " + cache.string());
  }
};

std::string label(const CorpusIndex& index, std::uint64_t row, JsonFile which = JsonFile::train) {
  auto json = index.row(row_of("ks"), which, row);
  return json ? (*json)["label"].get<std::string>() : json.error().message;
}

TEST(CorpusIndex, FindsEveryRowOfEveryFile) {
  const Folders at;
  at.write("ks/train.json", 1000);
  at.write("ks/test.json", 256, "test");
  const auto index = at.open();
  ASSERT_NE(index->file(row_of("ks"), JsonFile::train), nullptr);
  EXPECT_EQ(index->file(row_of("ks"), JsonFile::train)->rows, 1000U);
  EXPECT_EQ(index->file(row_of("ks"), JsonFile::test)->rows, 256U);
  EXPECT_EQ(index->file(row_of("ucf"), JsonFile::train), nullptr);
  for (const std::uint64_t row : {0, 1, 255, 256, 511, 512, 999})
    EXPECT_EQ(label(*index, row), "row " + std::to_string(row));
  EXPECT_EQ(label(*index, 255, JsonFile::test), "test 255");
  EXPECT_EQ(index->line(row_of("ks"), JsonFile::train, 500), 502U);
  EXPECT_EQ(index->row(row_of("ks"), JsonFile::train, 1000).error().code, Errc::invalid_argument);
}

TEST(CorpusIndex, IsReadAgainOnlyWhenAFileWasChanged) {
  const Folders at;
  at.write("ks/train.json", 300);
  at.write("ucf/train.json", 3);
  const auto hash = at.open()->file(row_of("ks"), JsonFile::train)->hash;
  {
    const Log log;
    EXPECT_EQ(at.open()->file(row_of("ks"), JsonFile::train)->hash, hash);
    EXPECT_EQ(log.text(), "") << "nothing was built";
  }
  const struct {
    const char* what;
    std::function<void()> change;
    const char* says;
  } changes[] = {
      {"longer", [&] { at.write("ks/train.json", 301); }, "ks/train.json was changed"},
      {"same length", [&] { at.write("ks/train.json", 301, "rot"); }, "ks/train.json was changed"},
      {"new", [&] { at.write("ks/test.json", 5); }, "ks/test.json is new"},
      {"gone", [&] { fs::remove(at.corpus / "ucf/train.json"); }, "ucf/train.json is gone"},
  };
  for (const auto& [what, change, says] : changes) {
    SCOPED_TRACE(what);
    change();
    const Log log;
    const auto index = at.open();
    EXPECT_NE(log.text().find(says), std::string::npos) << log.text();
    EXPECT_EQ(index->file(row_of("ks"), JsonFile::train)->rows, 301U);
    EXPECT_NE(index->file(row_of("ks"), JsonFile::train)->hash, hash);
  }
}

// Same size, same time: only the row itself can tell.
TEST(CorpusIndex, ARowThatWasChangedInPlaceIsNotTakenForTheOldOne) {
  const Folders at;
  at.write("ks/train.json", 10);
  at.open();
  const auto file = at.corpus / "ks/train.json";
  struct stat before {};
  ASSERT_EQ(::stat(file.c_str(), &before), 0);
  at.write("ks/train.json", 10, "rot");
  const timespec times[2] = {before.st_atim, before.st_mtim};
  ASSERT_EQ(::utimensat(AT_FDCWD, file.c_str(), times, 0), 0);
  EXPECT_NE(label(*at.open(), 3).find("was changed"), std::string::npos);
}

TEST(CorpusIndex, BrokenFilesAreKnownByTheirProblem) {
  const Folders at;
  at.write("ks/train.json", 3);
  write_text(at.corpus / "ucf/train.json", "[\n{\"a\": 1},\n{\"b\": }\n]");
  for (int opening = 0; opening < 2; ++opening) {
    const auto index = at.open();
    const auto* broken = index->file(row_of("ucf"), JsonFile::train);
    ASSERT_NE(broken, nullptr);
    ASSERT_TRUE(broken->problem.has_value());
    EXPECT_EQ(broken->problem->code, Errc::data_error);
    EXPECT_NE(broken->problem->message.find("train.json:3:7: broken JSON"), std::string::npos);
    EXPECT_EQ(label(*index, 2), "row 2");
  }
}

TEST(CorpusIndex, ADamagedOrOlderOneIsBuiltAgain) {
  const Folders at;
  at.write("ks/train.json", 2000);
  at.open();
  const auto set_format = [&](const std::string& format) {
    auto db = open_db(at.place(), DbUse::write);
    ASSERT_TRUE(db.has_value()) << db.error().message;
    const auto status = format.empty() ? (*db)->Delete({}, "f") : (*db)->Put({}, "f", format);
    ASSERT_TRUE(status.ok());
  };
  const struct {
    const char* what;
    std::function<void()> damage;
    const char* says;
  } damages[] = {
      {"older", [&] { set_format("crabcast corpus index 0"); }, "its format is"},
      {"not whole", [&] { set_format(""); }, "it is not whole"},
      {"no database", [&] { fs::remove(at.place() / "CURRENT"); }, "it cannot be opened"},
      {"cut off",
       [&] {
         for (const auto& entry : fs::directory_iterator(at.place()))
           if (entry.path().extension() == ".sst") fs::resize_file(entry.path(), 100);
       },
       "it "},
  };
  for (const auto& [what, damage, says] : damages) {
    SCOPED_TRACE(what);
    damage();
    const Log log;
    const auto index = at.open();
    EXPECT_NE(log.text().find(says), std::string::npos) << log.text();
    EXPECT_EQ(label(*index, 1999), "row 1999");
  }
}

TEST(CorpusIndex, TheCorpusItselfIsNeverWrittenTo) {
  const Folders at;
  at.write("ks/train.json", 3);
  const auto before = fs::last_write_time(at.corpus);
  at.open();
  EXPECT_EQ(fs::last_write_time(at.corpus), before);
  std::size_t files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(at.corpus)) files += entry.exists();
  EXPECT_EQ(files, 2U);
}

// Loaders and evaluators of one node start together: one builds, all get the same.
TEST(CorpusIndex, ManyMayOpenItAtOnce) {
  const Folders at;
  at.write("ks/train.json", 5000);
  const Log log;
  std::vector<std::future<std::uint64_t>> openings;
  for (int i = 0; i < 6; ++i)
    openings.push_back(std::async(std::launch::async, [&] {
      const auto index = at.open();
      EXPECT_EQ(label(*index, 4321), "row 4321");
      return index->file(row_of("ks"), JsonFile::train)->hash;
    }));
  std::set<std::uint64_t> hashes;
  for (auto& opening : openings) hashes.insert(opening.get());
  EXPECT_EQ(hashes.size(), 1U);
  const auto text = log.text();
  EXPECT_EQ(text.find("is built"), text.rfind("is built")) << text;
}

// A reader keeps its rows while the index below it is replaced.
TEST(CorpusIndex, AReaderKeepsItsRowsWhenAnotherOneBuildsAnew) {
  const Folders at;
  at.write("ks/train.json", 1000);
  const auto first = at.open();
  at.write("ks/test.json", 1, "test");
  const auto second = at.open();
  EXPECT_EQ(label(*second, 0, JsonFile::test), "test 0");
  EXPECT_EQ(label(*first, 999), "row 999");
  EXPECT_EQ(label(*first, 500), "row 500");
}

// kill -9 at any moment of the building: the next one to open it finds or makes a whole index.
TEST(CorpusIndexDeathTest, KilledWhileItIsBuilt) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // the child is a new process
  constexpr const char* kPlace = "CRABCAST_TEST_INDEX_PLACE";
  std::optional<Folders> mine;
  if (std::getenv(kPlace) == nullptr) {
    mine.emplace();
    mine->write("ks/train.json", 30'000);
    ::setenv(kPlace, mine->folder.path().c_str(), 1);
  }
  const fs::path place = std::getenv(kPlace);
  for (const int milliseconds : {1, 5, 10, 20, 30, 40, 60, 80, 100}) {
    EXPECT_EXIT(
        {
          std::thread killer([milliseconds] {
            std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
            ::kill(::getpid(), SIGKILL);
          });
          (void)CorpusIndex::open(place / "corpus", place / "cache");
          killer.join();
        },
        ::testing::KilledBySignal(SIGKILL), "");
    if (!mine) continue;
    EXPECT_EQ(label(*mine->open(), 29'999), "row 29999") << "after " << milliseconds << " ms";
    fs::remove_all(mine->cache);
  }
  ::unsetenv(kPlace);
}

TEST(RowScan, TellsWhereTheFileStopsBeingAList) {
  const TemporaryFolder folder;
  const auto file = folder / "rows.json";
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"[{}\n{}]", ":2:1: broken JSON: expected \",\""},
      {"[{},]", ":1:5: broken JSON"},
      {"[,{}]", ":1:2: broken JSON"},
      {"[{}] {}", ":1:6: broken JSON: something follows"},
      {"[{\"a\": [1, 2}]", ":1:13: broken JSON: expected \"]\""},
      {"[{\"a\": \"]}", ":1:11: broken JSON: the file ends inside the row"},
      {"[{}", ":1:4: broken JSON: the file ends"},
      {"", "the file is empty"},
      {"[" + std::string(1000, '{'), "too many brackets"},
  };
  for (const auto& [text, says] : bad) {
    write_text(file, text);
    const auto scanned = scan_rows(file, [](const RowText&) -> Status { return {}; });
    ASSERT_FALSE(scanned.has_value()) << text;
    EXPECT_EQ(scanned.error().code, Errc::data_error);
    EXPECT_NE(scanned.error().message.find(says), std::string::npos) << scanned.error().message;
  }
}

TEST(RowScan, GivesRowsWithTheirPlaces) {
  const TemporaryFolder folder;
  const auto file = folder / "rows.json";
  write_text(file, "\xEF\xBB\xBF [\n {\"a\": \"}\\\"]\"} ,\n{\"b\":\n{}}]\n");
  std::vector<std::string> seen;
  const auto scanned = scan_rows(file, [&](const RowText& row) -> Status {
    seen.push_back(std::to_string(row.begin) + "@" + std::to_string(row.line) + ":" +
                   std::to_string(row.column) + " " + std::string(row.text));
    return check_row(file, row);
  });
  ASSERT_TRUE(scanned.has_value()) << scanned.error().message;
  EXPECT_EQ(seen, (std::vector<std::string>{"7@2:2 {\"a\": \"}\\\"]\"}", "23@3:1 {\"b\":\n{}}"}));
}

}  // namespace
}  // namespace crabcast::data
