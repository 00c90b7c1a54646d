// Verbs, help, mistakes and completion.
#include "tests/cli/cli_fixture.h"

namespace crabcast::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class CommandLineTest : public CliTest {};

const std::vector<std::vector<std::string>> kVerbs = {
    {"run"},
    {"validate"},
    {"plan"},
    {"submit"},
    {"ps"},
    {"status"},
    {"logs"},
    {"events"},
    {"incidents"},
    {"cancel"},
    {"scale"},
    {"nodes"},
    {"pause"},
    {"resume"},
    {"hold"},
    {"release"},
    {"explain"},
    {"queues"},
    {"drain"},
    {"init"},
    {"diff"},
    {"clone"},
    {"simulate"},
    {"policy"},
    {"policy", "check"},
    {"token"},
    {"token", "add"},
    {"token", "ls"},
    {"token", "revoke"},
    {"report"},
    {"quarantine"},
    {"ckpt"},
    {"ckpt", "ls"},
    {"ckpt", "show"},
    {"ckpt", "verify"},
    {"ckpt", "diff"},
    {"ckpt", "pin"},
    {"ckpt", "unpin"},
    {"ckpt", "gc"},
    {"ckpt", "export"},
    {"ckpt", "import"},
    {"chaos"},
    {"chaos", "run"},
    {"chaos", "points"},
    {"controller"},
    {"agent"},
    {"generate"},
    {"data"},
    {"base"},
    {"adapter"},
    {"adapter", "export"},
    {"doctor"},
    {"completion"},
    {"version"},
    {"completion", "bash"},
};

// The words in front of a list's descriptions, as help prints them.
std::vector<std::string> listed_verbs(const std::string& help) {
  std::vector<std::string> verbs;
  std::istringstream lines(help.substr(help.find("Verbs:")));
  std::string line;
  std::getline(lines, line);
  while (std::getline(lines, line) && !line.empty())
    if (line[2] != ' ') verbs.push_back(line.substr(2, line.find(' ', 2) - 2));
  return verbs;
}

TEST_F(CommandLineTest, Version) {
  const auto done = run_program("crabcast", {"version"});
  EXPECT_EQ(done.code, 0);
  EXPECT_EQ(done.out, "crabcast 0.1.0 (protocol 1)\n");
  EXPECT_EQ(done.err, "");
  EXPECT_EQ(run_program("crabcast", {"--version"}).out, done.out);
  EXPECT_EQ(run_json({"version"}), (json{{"version", "0.1.0"}, {"protocol", 1}}));
}

TEST_F(CommandLineTest, EveryVerbHasHelpWithAnExample) {
  for (auto words : kVerbs) {
    const std::string example = "\n  crabcast " + words.front();
    std::string verb = "crabcast";
    for (const auto& word : words) verb += " " + word;
    words.emplace_back("--help");
    const auto done = run(words);
    EXPECT_EQ(done.code, 0) << verb;
    EXPECT_THAT(done.out, HasSubstr("Usage: " + verb)) << verb;
    EXPECT_THAT(done.out, HasSubstr("Example:\n")) << verb;
    const bool is_shell = words.front() == "completion";
    EXPECT_THAT(done.out, HasSubstr(is_shell ? "crabcast completion bash" : example)) << verb;
    EXPECT_EQ(done.err, "") << verb;
  }
}

TEST_F(CommandLineTest, HelpListsEveryVerbAndNoInternalOne) {
  const auto done = run({"--help"});
  EXPECT_EQ(done.code, 0);
  std::vector<std::string> expected;
  for (const auto& words : kVerbs)
    if (words.size() == 1) expected.push_back(words.front());
  EXPECT_THAT(listed_verbs(done.out), ::testing::UnorderedElementsAreArray(expected)) << done.out;
  EXPECT_THAT(done.out, Not(HasSubstr("Launch file")));
}

TEST_F(CommandLineTest, AnUnknownVerbGetsTheNearestName) {
  const auto done = run({"submti", "job.yaml"});
  EXPECT_EQ(done.code, 2);
  EXPECT_THAT(done.err, HasSubstr("'submti' is no verb of crabcast; did you mean 'submit'?"));
  EXPECT_EQ(done.out, "");
  const auto below = run({"ckpt", "verfy"});
  EXPECT_EQ(below.code, 2);
  EXPECT_THAT(below.err, HasSubstr("'verfy' is no verb of crabcast ckpt; did you mean 'verify'?"));
  const auto far = run({"zzzzzzzz"});
  EXPECT_EQ(far.code, 2);
  EXPECT_THAT(far.err, HasSubstr("(run, validate, submit"));
}

TEST_F(CommandLineTest, AnUnknownOptionGetsTheNearestName) {
  const auto done = run({"ps", "--jsn"});
  EXPECT_EQ(done.code, 2);
  EXPECT_THAT(done.err, HasSubstr("there is no option --jsn; did you mean --json?"));
  EXPECT_THAT(done.err, HasSubstr("? See crabcast ps --help"));
}

TEST_F(CommandLineTest, MissingAndWrongArgumentsAreUsageErrors) {
  EXPECT_EQ(run({"status"}).code, 2);
  EXPECT_EQ(run({"ckpt", "verify"}).code, 2);
  EXPECT_EQ(run({"ckpt", "verify", "job", "--store", "/tmp"}).code, 2);
  EXPECT_EQ(run({"ckpt", "verify", "job", "--id", "first"}).code, 2);
  EXPECT_EQ(run({"agent"}).code, 2);
  EXPECT_EQ(run({"agent", "--join", "h:1", "--memory", "much"}).code, 2);
  EXPECT_EQ(run({"agent", "--join", "h:1", "--cpus", "-1"}).code, 2);
  EXPECT_EQ(run({"ps", "one", "two"}).code, 2);
  const auto alone = run_program("crabcast", {});
  EXPECT_EQ(alone.code, 2);
  EXPECT_THAT(alone.err, HasSubstr("\nVerbs:"));
  const auto half = run_program("crabcast", {"ckpt"});
  EXPECT_EQ(half.code, 2);
  EXPECT_THAT(half.err, HasSubstr("Usage: crabcast ckpt [OPTIONS] VERB"));
}

TEST_F(CommandLineTest, WithJsonAMistakeIsAnObjectToo) {
  const json error = run_json({"status", "nobody-1"}, 4).at("error");
  EXPECT_EQ(error.at("code"), "not_found");
  EXPECT_EQ(error.at("exit"), 4);
  EXPECT_EQ(run_json({"ps", "one", "two"}, 2).at("error").at("code"), "usage");
}

// crabcast-compute gets the words after `crabcast` as they are, in crabcast's own process.
TEST_F(CommandLineTest, DataVerbsAreHandedOn) {
  const auto bin = folder_ / "bin";
  std::filesystem::create_directories(bin);
  std::filesystem::copy_file(program("crabcast"), bin / "crabcast");
  const auto missing = run_program(bin / "crabcast", {"data", "synth", "--out", "x"});
  EXPECT_EQ(missing.code, 4);
  EXPECT_THAT(missing.err, HasSubstr("crabcast-compute is not beside crabcast"));
  write_file(
      bin / "crabcast-compute",
      "#!/bin/sh\nfor word; do echo \"[$word]\"; done\necho \"$CRABCAST_STATE $$\"\nexit 7\n");
  std::filesystem::permissions(bin / "crabcast-compute", std::filesystem::perms::owner_all);
  Program running(bin / "crabcast",
                  {"--state", "/some/where", "data", "synth", "--out", "a b", "--help", ""});
  EXPECT_EQ(running.wait(60s), 7);
  EXPECT_EQ(running.out(), "[data]\n[synth]\n[--out]\n[a b]\n[--help]\n[]\n/some/where " +
                               std::to_string(running.pid()) + "\n");
}

TEST_F(CommandLineTest, BaseVerbsAreHandedOn) {
  const auto bin = folder_ / "bin";
  std::filesystem::create_directories(bin);
  std::filesystem::copy_file(program("crabcast"), bin / "crabcast");
  write_file(bin / "crabcast-compute",
             "#!/bin/sh\nfor word; do echo \"[$word]\"; done\necho \"$CRABCAST_STATE\"\n");
  std::filesystem::permissions(bin / "crabcast-compute", std::filesystem::perms::owner_all);
  const auto done = run_program(
      bin / "crabcast", {"--state", "/some/where", "base", "import", "/a b", "--name", "x"});
  EXPECT_EQ(done.code, 0);
  EXPECT_EQ(done.out, "[base]\n[import]\n[/a b]\n[--name]\n[x]\n/some/where\n");
  EXPECT_EQ(run_program(bin / "crabcast", {"base"}).code, 2);
  EXPECT_THAT(run_program(bin / "crabcast", {"base", "inspct"}).err,
              HasSubstr("did you mean 'inspect'?"));
}

class CompletionTest : public CliTest {
 protected:
  CompletionTest() {
    const auto done = run({"completion", "bash"});
    EXPECT_EQ(done.code, 0) << done.err;
    write_file(script(), done.out);
  }
  [[nodiscard]] std::filesystem::path script() const { return folder_ / "completion.bash"; }

  // What bash offers for the last of the words.
  [[nodiscard]] std::vector<std::string> offers(const std::vector<std::string>& words) const {
    std::string line;
    for (const auto& word : words) line += " '" + word + "'";
    const auto done = run_program(
        "/bin/bash",
        {"-c", "set -u; source " + script().string() + "; COMP_WORDS=('" +
                   program("crabcast").string() + "'" + line +
                   "); COMP_CWORD=" + std::to_string(words.size()) +
                   "; _crabcast; for offer in \"${COMPREPLY[@]}\"; do echo \"$offer\"; done"});
    EXPECT_EQ(done.code, 0) << done.err;
    EXPECT_EQ(done.err, "");
    std::vector<std::string> result;
    std::istringstream lines(done.out);
    for (std::string offer; std::getline(lines, offer);) result.push_back(offer);
    return result;
  }
};

TEST_F(CompletionTest, BashTakesItAndEveryVerbIsThere) {
  const auto checked = run_program("/bin/bash", {"-n", script().string()});
  EXPECT_EQ(checked.code, 0) << checked.err;
  const auto offered = offers({""});
  EXPECT_THAT(offered, ::testing::IsSupersetOf(listed_verbs(run({"--help"}).out)));
  EXPECT_THAT(offered, Not(::testing::Contains("role")));
  for (const auto& words : kVerbs) {
    auto line = words;
    line.back() = line.back().substr(0, 2);
    EXPECT_THAT(offers(line), ::testing::Contains(words.back()));
  }
}

TEST_F(CompletionTest, OffersOptionsFilesAndFolders) {
  EXPECT_THAT(offers({"logs", "--f"}), ::testing::ElementsAre("--follow"));
  EXPECT_THAT(offers({"ckpt", "verify", "--i"}), ::testing::ElementsAre("--id"));
  EXPECT_THAT(offers({"ckpt", "gc", "--d"}), ::testing::ElementsAre("--dry-run"));
  const std::string base = folder_.path().string();
  write_file(folder_ / "spec.yaml", "");
  std::filesystem::create_directories(folder_ / "specs");
  EXPECT_THAT(offers({"submit", base + "/spec"}),
              ::testing::UnorderedElementsAre(base + "/spec.yaml", base + "/specs"));
  EXPECT_THAT(offers({"ps", "--state", base + "/spec"}), ::testing::ElementsAre(base + "/specs"));
  EXPECT_THAT(offers({"submit", "--key", base + "/spec"}), ::testing::IsEmpty());
  EXPECT_THAT(offers({"base", "inspect", base + "/spec"}), ::testing::ElementsAre(base + "/specs"));
  EXPECT_THAT(offers({"base", "import", "--n"}), ::testing::ElementsAre("--name"));
}

TEST_F(CompletionTest, OffersJobIds) {
  {
    auto registry = open_registry();
    must(registry->put_job(job_record("alpha", 1, pb::JOB_SUCCEEDED), storage::Sync::no));
    must(registry->put_job(job_record("alps", 2, pb::JOB_PENDING), storage::Sync::no));
    must(registry->put_job(job_record("beta", 3, pb::JOB_PENDING), storage::Sync::no));
  }
  const std::string here = state().string();
  EXPECT_THAT(offers({"--state", here, "status", "al"}),
              ::testing::ElementsAre("alpha-1", "alps-2"));
  EXPECT_THAT(offers({"ckpt", "ls", "--state", here, "b"}), ::testing::ElementsAre("beta-3"));
  EXPECT_THAT(offers({"--state", here, "logs", "alpha-1", ""}), ::testing::IsEmpty());
}

}  // namespace
}  // namespace crabcast::testing
