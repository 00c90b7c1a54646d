// The dashboard's files: what is on the disk is what is served, and nothing in them could run what
// a job, a log or an answer says.
#include <gmock/gmock.h>

#include <regex>
#include <set>

#include "actors/control/gateway/pages.h"
#include "tests/support/program.h"

namespace crabcast::gateway {
namespace {

std::filesystem::path folder() {
  const char* source = std::getenv("CRABCAST_SOURCE");
  return std::filesystem::path(source == nullptr ? "." : source) / "dashboard";
}

TEST(Dashboard, EveryFileIsServedAndNoOther) {
  std::set<std::string> on_disk = {"chart.js"}, served;  // Chart.js is Debian's
  for (const auto& entry : std::filesystem::directory_iterator(folder()))
    on_disk.insert(entry.path().filename());
  for (const auto& page : pages()) {
    served.insert(page.name);
    if (page.name != "chart.js")
      EXPECT_EQ(page.content, testing::read_file(folder() / page.name)) << page.name;
  }
  EXPECT_EQ(served, on_disk);
}

TEST(Dashboard, NothingBecomesMarkupOrCode) {
  const std::regex banned(
      R"(innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc|DOMParser|javascript:)");
  const std::regex elsewhere(R"((src|href|import|from|fetch|url)\W{0,3}["'(]https?:)");
  for (const auto& page : pages()) {
    if (page.name == "chart.js") continue;
    const std::string text(page.content);
    std::smatch found;
    EXPECT_FALSE(std::regex_search(text, found, banned)) << page.name << ": " << found.str();
    EXPECT_FALSE(std::regex_search(text, found, elsewhere)) << page.name << ": " << found.str();
  }
}

TEST(Dashboard, TheContentSecurityPolicyCanHold) {
  const std::string index(find_page("index.html")->content);
  EXPECT_FALSE(std::regex_search(index, std::regex(R"(<script>|<style|\son[a-z]+=|style=)")));
}

// Every file that another one asks for is there.
TEST(Dashboard, EveryReferenceLeadsSomewhere) {
  const std::regex reference(R"(/assets/([a-z_.]+))");
  std::size_t count = 0;
  for (const auto& page : pages()) {
    if (page.name == "chart.js") continue;
    const std::string text(page.content);
    for (std::sregex_iterator it(text.begin(), text.end(), reference), end; it != end;
         ++it, ++count)
      EXPECT_NE(find_page((*it)[1].str()), nullptr) << page.name << ": " << it->str();
  }
  EXPECT_GT(count, 20U);
}

}  // namespace
}  // namespace crabcast::gateway
