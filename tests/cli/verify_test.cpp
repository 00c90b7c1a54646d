// `crabcast data verify`: what it finds, and that any interruption can be gone on from.
#include <fstream>

#include "tests/cli/cli_fixture.h"

namespace crabcast::testing {
namespace {

namespace fs = std::filesystem;

class VerifyTest : public CliTest {
 protected:
  static void SetUpTestSuite() {
    made_ = new TemporaryFolder;
    const auto done = run_program(
        "crabcast",
        {"data", "synth", "--out", *made_ / "corpus", "--samples-per-dataset", "6", "--quiet"},
        300s);
    ASSERT_EQ(done.code, 0) << done.err;
  }
  static void TearDownTestSuite() { delete made_; }

  void SetUp() override { fs::copy(*made_ / "corpus", corpus(), fs::copy_options::recursive); }
  // Instead of the one that all tests share.
  void render(int samples_per_dataset, const std::vector<std::string>& more = {}) {
    fs::remove_all(corpus());
    std::vector<std::string> arguments = {"data",
                                          "synth",
                                          "--out",
                                          corpus(),
                                          "--samples-per-dataset",
                                          std::to_string(samples_per_dataset),
                                          "--quiet"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const auto made = run_program("crabcast", arguments, 300s);
    ASSERT_EQ(made.code, 0) << made.err;
  }
  fs::path corpus() const { return folder_ / "corpus"; }
  fs::path list() const { return corpus() / "crabcast-quarantine.jsonl"; }

  // A file of the data set whose name ends so; the first in the order of names.
  fs::path some_file(const std::string& set, const std::string& ending) const {
    std::vector<fs::path> found;
    for (const auto& entry : fs::recursive_directory_iterator(corpus() / set))
      if (entry.path().string().ends_with(ending)) found.push_back(entry.path());
    std::sort(found.begin(), found.end());
    return found.at(0);
  }
  std::vector<json> listed() const {
    std::vector<json> lines;
    std::ifstream in(list());
    for (std::string line; std::getline(in, line);) lines.push_back(json::parse(line));
    return lines;
  }
  void break_three() const {
    fs::resize_file(some_file("ks", ".mp4"), 500);
    fs::remove(some_file("avcap", ".mp3"));
    std::string mask = json::parse(read_file(corpus() / "s4/test.json"))[0]["visual_path"];
    mask.replace(mask.find("frames/"), 7, "labels_semantic/");
    write_file((corpus() / "s4" / mask).replace_extension(".png"), "no picture");
  }

  static inline TemporaryFolder* made_ = nullptr;
};

TEST_F(VerifyTest, AGoodCorpus) {
  const auto done = run({"data", "verify", corpus(), "--decode"});
  EXPECT_EQ(done.code, 0) << done.out << done.err;
  EXPECT_NE(done.out.find("samples can be read"), std::string::npos) << done.out;
  EXPECT_EQ(listed().size(), 0U);
  EXPECT_TRUE(fs::exists(list()));
  EXPECT_FALSE(fs::exists(list().string() + ".partial"));
}

TEST_F(VerifyTest, AnOptionalTaskIsVerifiedWhereItIs) {
  render(4, {"--with", "av_matching"});
  fs::resize_file(some_file("a2v", ".mp4"), 500);
  const json report = run_json({"data", "verify", corpus(), "--decode"}, 1);
  EXPECT_EQ(report["done"], report["samples"]);
  const auto lines = listed();
  ASSERT_FALSE(lines.empty());
  for (const auto& line : lines) EXPECT_EQ(line["dataset"], "a2v") << line;
}

TEST_F(VerifyTest, BadSamplesAreListedWithStageAndReason) {
  break_three();
  const json report = run_json({"data", "verify", corpus(), "--decode", "--processes", "2"}, 1);
  EXPECT_EQ(report["done"], report["samples"]);
  const auto lines = listed();
  ASSERT_GE(lines.size(), 3U);
  EXPECT_EQ(report["bad"], lines.size());
  for (const auto& line : lines) {
    for (const char* field : {"dataset", "split", "index", "files", "stage", "reason"})
      EXPECT_TRUE(line.contains(field)) << line;
    EXPECT_FALSE(line["reason"].get<std::string>().empty());
  }
  const auto of = [&](const std::string& set) {
    return *std::find_if(lines.begin(), lines.end(),
                         [&](const json& line) { return line["dataset"] == set; });
  };
  EXPECT_EQ(of("ks")["files"][0], some_file("ks", ".mp4").string());
  EXPECT_NE(of("s4")["files"][0].get<std::string>().find("labels_semantic"), std::string::npos);
  EXPECT_EQ(of("avcap")["stage"], "open");
  EXPECT_NE(of("avcap")["reason"].get<std::string>().find("No such file"), std::string::npos);
}

TEST_F(VerifyTest, GoesOnAfterKill9AndCtrlC) {
  render(16);  // takes longer than a signal on a slow machine
  break_three();
  const auto whole = run_json({"data", "verify", corpus(), "--decode"}, 1);
  const auto expected = listed();
  fs::remove(list());
  const fs::path partial = list().string() + ".partial";
  const auto lines_of = [&] {
    std::ifstream in(partial);
    return std::count(std::istreambuf_iterator<char>(in), {}, '\n');
  };
  const std::vector<std::string> arguments = {"data",     "verify",      corpus(),
                                              "--decode", "--processes", "1"};
  for (const int signal : {SIGKILL, SIGINT}) {
    Program program("crabcast", arguments);
    const auto before = lines_of();
    ASSERT_TRUE(eventually([&] { return lines_of() > std::max<long>(1, before); }, 60s))
        << program.err();
    program.signal(signal);
    const auto code = program.wait(30s);
    ASSERT_TRUE(code.has_value());
    EXPECT_EQ(*code, signal == SIGKILL ? 128 + SIGKILL : 8) << program.err();
    EXPECT_FALSE(fs::exists(list()));
  }
  const json rest = run_json(arguments, 1);
  EXPECT_GT(rest["done_by_earlier_calls"].get<int>(), 0);
  EXPECT_EQ(rest["done"], whole["done"]);
  EXPECT_EQ(listed(), expected);
}

TEST_F(VerifyTest, CommandLine) {
  EXPECT_EQ(run({"data", "verify", corpus()}).code, 2);
  EXPECT_EQ(run({"data", "verify", folder_ / "nowhere", "--decode"}).code, 4);
  EXPECT_EQ(run({"data", "verify", "--help"}).code, 0);
}

}  // namespace
}  // namespace crabcast::testing
