// The repository keeps the house rules. What each rule finds is tested in rules_test.cpp.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>

#include "tests/house/layering.h"
#include "tests/house/words.h"

namespace crabcast::house {
namespace {

const std::vector<SourceFile>& files() {
  static const std::vector<SourceFile> all = repository_files();
  return all;
}

bool is_in_repository(const std::string& path) {
  return !path.starts_with("..") && std::filesystem::exists(repository_root() / path);
}

template <class Check>
void expect_kept(const Check& check) {
  // An empty walk would keep every rule.
  ASSERT_GT(files().size(), 50U) << "set CRABCAST_SOURCE to the repository";
  for (const SourceFile& file : files())
    for (const Violation& violation : check(file)) ADD_FAILURE() << violation.text();
}

TEST(House, FoldersIncludeOnlyWhatTheyMay) {
  expect_kept(check_layering);
}

TEST(House, NoBannedCalls) {
  expect_kept([](const SourceFile& file) {
    Violations found = check_code(file);
    std::erase_if(found, is_exempt);
    return found;
  });
}

TEST(House, NoExemptionIsStale) {
  for (const Exemption& exemption : exemptions()) {
    const auto file = std::find_if(files().begin(), files().end(),
                                   [&](const SourceFile& f) { return f.path == exemption.path; });
    ASSERT_NE(file, files().end()) << exemption.path;
    const Violations found = check_code(*file);
    EXPECT_TRUE(std::any_of(found.begin(), found.end(), is_exempt))
        << exemption.path << " no longer needs it";
  }
}

TEST(House, NothingUnfinishedAndNothingFromOutside) {
  expect_kept(check_words);
}

TEST(House, FilesStayShort) {
  expect_kept(check_length);
}

TEST(House, LinksLeadSomewhere) {
  expect_kept([](const SourceFile& file) { return check_links(file, is_in_repository); });
}

TEST(House, NamedFilesExist) {
  expect_kept([](const SourceFile& file) { return check_named_files(file, is_in_repository); });
}

// Caches and output of tools that were run here do not belong to it.
TEST(House, NothingElseStandsAtTheTop) {
  std::set<std::string> known = {".ci",        ".clang-format",  ".git",
                                 ".gitignore", "CMakeLists.txt", "CMakePresets.json",
                                 "README.md",  "actors",         "apps",
                                 "bench",      "cluster",        "cmake",
                                 "dashboard",  "data",           "deploy",
                                 "dev",        "docs",           "examples",
                                 "model",      "protocol",       "scheduler",
                                 "storage",    "tests"};
  std::ifstream ignored(repository_root() / ".gitignore");
  for (std::string line; std::getline(ignored, line);) {
    std::erase(line, '/');
    known.insert(line);
  }
  for (const auto& entry : std::filesystem::directory_iterator(repository_root()))
    EXPECT_TRUE(known.contains(entry.path().filename().string())) << entry.path();
}

// A point that is listed and nowhere passed would make a staged fault that never strikes.
TEST(House, EveryFaultPointIsPassedSomewhere) {
  std::string listed, passed;
  for (const SourceFile& file : files()) {
    if (file.path == "protocol/fault_points.cpp")
      listed = file.text;
    else if (is_product(file.path))
      passed += file.text;
  }
  static const std::regex kListed("FaultPoint\\{\"([a-z_.]+)\"");
  std::size_t points = 0;
  for (std::sregex_iterator it(listed.begin(), listed.end(), kListed), end; it != end;
       ++it, ++points)
    EXPECT_NE(passed.find("fault_point(\"" + it->str(1) + "\")"), std::string::npos) << it->str(1);
  EXPECT_GT(points, 20U);
}

TEST(House, EveryTestAndBenchmarkIsBuilt) {
  std::map<std::string, std::string> cmake;
  for (const SourceFile& file : files()) cmake[file.path] = file.text;
  expect_kept([&](const SourceFile& file) {
    return check_is_built(file, cmake["tests/CMakeLists.txt"], cmake["bench/CMakeLists.txt"]);
  });
}

}  // namespace
}  // namespace crabcast::house
