// Each house rule finds what it is for, and leaves good code alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/house/layering.h"
#include "tests/house/words.h"

namespace crabcast::house {
namespace {

using testing::HasSubstr;

std::string texts(const Violations& violations) {
  std::string all;
  for (const Violation& violation : violations) all += violation.text() + "\n";
  return all;
}

std::size_t layering(const std::string& path, const std::string& include) {
  return check_layering({path, "#include " + include + "\n"}).size();
}

TEST(Layering, FoldersIncludeOnlyWhatTheyMay) {
  EXPECT_EQ(layering("cluster/a.cpp", "\"protocol/error.h\""), 0U);
  EXPECT_EQ(layering("cluster/a.cpp", "\"cluster/b.h\""), 0U);
  EXPECT_EQ(layering("cluster/nccl/a.cpp", "\"cluster/b.h\""), 0U);
  EXPECT_EQ(layering("data/a.cpp", "\"model/tokenizer.h\""), 0U);
  EXPECT_EQ(layering("actors/control/a.cpp", "\"storage/registry.h\""), 0U);
  EXPECT_EQ(layering("actors/control/a.cpp", "\"actors/messages.h\""), 0U);
  EXPECT_EQ(layering("actors/compute/a.cpp", "\"model/session.h\""), 0U);
  EXPECT_EQ(layering("apps/cli/a.cpp", "\"actors/control/job.h\""), 0U);
  EXPECT_EQ(layering("apps/compute/a.cpp", "\"actors/compute/roles.h\""), 0U);
  EXPECT_EQ(layering("apps/compute/a.cpp", "\"model/base_import.h\""), 0U);
  EXPECT_EQ(layering("tests/data/a_test.cpp", "\"storage/registry.h\""), 0U);

  EXPECT_EQ(layering("protocol/a.cpp", "\"cluster/transport.h\""), 1U);
  EXPECT_EQ(layering("cluster/a.cpp", "\"storage/registry.h\""), 1U);
  EXPECT_EQ(layering("storage/a.h", "\"cluster/transport.h\""), 1U);
  EXPECT_EQ(layering("data/a.cpp", "\"model/session.h\""), 1U);
  EXPECT_EQ(layering("model/a.cpp", "\"data/batch.h\""), 1U);
  EXPECT_EQ(layering("scheduler/a.cpp", "\"cluster/transport.h\""), 1U);
  EXPECT_EQ(layering("actors/a.cpp", "\"storage/registry.h\""), 1U);
  EXPECT_EQ(layering("actors/a.cpp", "\"actors/control/job.h\""), 1U);
  EXPECT_EQ(layering("actors/control/a.cpp", "\"model/session.h\""), 1U);
  EXPECT_EQ(layering("actors/control/a.cpp", "\"actors/compute/worker.h\""), 1U);
  EXPECT_EQ(layering("actors/compute/a.cpp", "\"storage/job_store.h\""), 1U);
  EXPECT_EQ(layering("apps/compute/a.cpp", "\"model/session.h\""), 1U);
  EXPECT_EQ(layering("apps/compute/a.cpp", "\"storage/registry.h\""), 1U);
  EXPECT_EQ(layering("apps/cli/a.cpp", "\"actors/compute/roles.h\""), 1U);
  EXPECT_EQ(layering("apps/cli/a.cpp", "\"data/batch.h\""), 1U);
}

TEST(Layering, LibrariesStayInTheirFolders) {
  EXPECT_EQ(layering("model/a.cpp", "<torch/torch.h>"), 0U);
  EXPECT_EQ(layering("storage/a.cpp", "<rocksdb/db.h>"), 0U);
  EXPECT_EQ(layering("actors/control/a.cpp", "<caf/all.hpp>"), 0U);
  EXPECT_EQ(layering("cluster/a.cpp", "<vector>"), 0U);

  EXPECT_EQ(layering("cluster/a.cpp", "<torch/torch.h>"), 1U);
  EXPECT_EQ(layering("actors/control/a.cpp", "<ATen/ATen.h>"), 1U);
  EXPECT_EQ(layering("actors/compute/a.cpp", "<rocksdb/db.h>"), 1U);
  EXPECT_EQ(layering("cluster/a.cpp", "<caf/all.hpp>"), 1U);
  EXPECT_EQ(layering("apps/cli/a.cpp", "<zmq.hpp>"), 1U);
  EXPECT_EQ(layering("apps/cli/a.cpp", "<torch/torch.h>"), 1U);
  EXPECT_EQ(layering("model/a.cpp", "<libavcodec/avcodec.h>"), 1U);
  EXPECT_EQ(layering("scheduler/a.cpp", "\"rocksdb/db.h\""), 1U);
}

TEST(Layering, MessagesNameTheArrowAndTheLine) {
  const auto found =
      check_layering({"storage/a.cpp", "// a\n#include <vector>\n#include \"cluster/keys.h\"\n"});
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].text(),
            "storage/a.cpp:3: layering: storage/ must not include cluster/, only "
            "protocol: hand the value in from a folder above (cluster/keys.h)");
}

TEST(Layering, PathsAreWrittenFromTheRootAndEveryFolderHasALayer) {
  EXPECT_EQ(layering("storage/a.cpp", "\"registry.h\""), 1U);
  EXPECT_EQ(layering("storage/a.cpp", "\"../cluster/keys.h\""), 1U);
  EXPECT_THAT(texts(check_layering({"newfolder/a.cpp", ""})), HasSubstr("no layer"));
}

TEST(Layering, CommentsAreNoIncludes) {
  EXPECT_EQ(check_layering({"storage/a.cpp",
                            "/*\n#include \"cluster/keys.h\"\n*/\n// #include <caf/all.hpp>\n"})
                .size(),
            0U);
}

std::size_t code(const std::string& path, const std::string& line) {
  return check_code({path, "int a;\n" + line + "\n"}).size();
}

TEST(CodeRules, BannedCalls) {
  for (const char* bad :
       {"std::this_thread::sleep_for(1s);", "usleep(3);", "  sleep(1);", "::sleep(seconds);",
        "  system(\"ls\");", "std::system(\"ls\");", "if (system(\"ls\") != 0)",
        "int r = ::system(a);", "auto* f = popen(a, b);", "strcpy(a, b);", "sprintf(a, b);",
        "int r = std::rand();", "int r = rand();", "srand(3);", "using namespace std;",
        "std::cerr << a;", "printf(\"a\");", "fprintf(stderr, \"a\");", "thread.detach();"}) {
    EXPECT_EQ(code("cluster/a.cpp", bad), 1U) << bad;
  }
  for (const char* good :
       {"snprintf(a, 3, b);", "self->system().spawn(f);", "config.system();", "torch::rand({2});",
        "generator.rand();", "void Loop::sleep(Lock& lock) {", "sleep(lock);",
        "// sleep_for would be wrong", "log(\"std::cerr sleep(1)\");",
        "caf::actor_system system_of(cfg);", "explicit Hub(caf::actor_system& s) : system(s) {}",
        "using namespace std::chrono_literals;", "auto brand(int);", "footprintf(1);"}) {
    EXPECT_EQ(code("cluster/a.cpp", good), 0U) << good;
  }
  EXPECT_EQ(code("apps/cli/main.cpp", "std::cout << report;"), 0U) << "programs print";
  EXPECT_EQ(code("model/a.cpp", "x = x.detach();"), 0U) << "tensors detach";
  EXPECT_EQ(code("tests/cluster/a_test.cpp", "std::cerr << a;"), 0U);
}

TEST(CodeRules, ExemptionsHoldForOneFileAndOneWord) {
  ASSERT_FALSE(exemptions().empty());
  const Exemption& one = exemptions().front();
  EXPECT_TRUE(is_exempt({one.path, 1, "no sleeping (" + one.word + ")"}));
  EXPECT_FALSE(is_exempt({one.path, 1, "no sleeping (usleep)"}));
  EXPECT_FALSE(is_exempt({"cluster/a.cpp", 1, "no sleeping (" + one.word + ")"}));
}

TEST(CodeRules, WhatCaf0176DoesNotHave) {
  for (const char* bad :
       {"self->request(a, caf::infinite, b);", "self->mail(a).send(b);", "self->run_delayed(a, b);",
        "fan_out_request(a);", "spawn(caf::actor_from_state<s>);", "return f.object(x).fields();",
        "CAF_ADD_ATOM(block, crabcast, claim_atom)"}) {
    EXPECT_EQ(code("actors/a.cpp", bad), 1U) << bad;
  }
  for (const char* good :
       {"self->request(a, kTimeout, b);", "CAF_ADD_ATOM(block, crabcast, claim_atom, \"claim\")",
        "std::string email(x);", "// caf::infinite"}) {
    EXPECT_EQ(code("actors/a.cpp", good), 0U) << good;
  }
}

TEST(CodeRules, PureCodeHasNoThreadsClocksOrFiles) {
  for (const std::string path : {"scheduler/a.cpp", "data/sampler.cpp"}) {
    for (const char* bad :
         {"#include <thread>", "#include <fstream>", "#include <mutex>", "#include <sys/stat.h>",
          "auto t = std::chrono::steady_clock::now();", "auto t = Clock::now();",
          "std::random_device d;", "getenv(\"A\");", "auto t = unix_ms_now();"}) {
      EXPECT_EQ(code(path, bad), 1U) << path << ": " << bad;
    }
    for (const char* good : {"#include <map>", "#include <chrono>", "std::mt19937_64 bits(seed);",
                             "// steady_clock::now"})
      EXPECT_EQ(code(path, good), 0U) << path << ": " << good;
  }
  EXPECT_EQ(code("data/decode_video.cpp", "#include <thread>"), 0U);
}

TEST(CodeRules, LinesAreCountedThroughCommentsAndStrings) {
  const auto found = check_code(
      {"storage/a.cpp",
       "/* a\n b */\nauto s = R\"(\n\"\n)\";\nchar c = '\"';\nint n = 1'000;\nusleep(1);\n"});
  ASSERT_EQ(found.size(), 1U) << texts(found);
  EXPECT_EQ(found[0].line, 8U);
}

TEST(TextRules, NothingUnfinishedAndNothingFromOutside) {
  const auto words = [](const std::string& text) {
    return check_words({"docs/a.md", text}).size();
  };
  for (const char* bad :
       {"// TODO: later", "# FIXME", "a HACK", "see /work/x", "../shared/design.md",
        "shared/reference/a.md", "the order (D3) of lanes", "as D1 to D8 say"}) {
    EXPECT_EQ(words(bad), 1U) << bad;
  }
  for (const char* good : {"/tmp/crabcast-XXXXXX", "a shared A", "framework/x", "std::shared_ptr",
                           "3D1 view", "todos"})
    EXPECT_EQ(words(good), 0U) << good;
  EXPECT_EQ(check_words({"tests/house/a_test.cpp", "TODO"}).size(), 0U);
}

TEST(TextRules, FilesStayShort) {
  const auto lines = [](std::size_t count) {
    std::string text;
    while (count-- > 0) text += "a\n";
    return text;
  };
  EXPECT_EQ(check_length({"model/a.cpp", lines(700)}).size(), 0U);
  EXPECT_EQ(check_length({"model/a.cpp", lines(701)}).size(), 1U);
  EXPECT_EQ(check_length({"docs/a.json", lines(5000)}).size(), 0U);
}

TEST(TextRules, LinksLeadSomewhere) {
  const Exists exists = [](const std::string& path) {
    return path == "docs/b.md" || path == "README.md" || path == "docs";
  };
  const auto links = [&](const std::string& text) {
    return check_links({"docs/a.md", text}, exists).size();
  };
  EXPECT_EQ(links("[b](b.md), [b2](./b.md#part), [top](../README.md), [d](../docs), "
                  "[w](https://x.y/z), [p](#part)"),
            0U);
  EXPECT_EQ(links("[c](c.md)"), 1U);
  EXPECT_EQ(links("[b](docs/b.md)"), 1U) << "links are relative to the page";
  EXPECT_EQ(links("[out](../../b.md)"), 1U);
  EXPECT_EQ(links("![picture](b.png) and [b](b.md)"), 1U);
  EXPECT_EQ(links("```\n[c](c.md)\n```\n"), 0U);
}

TEST(TextRules, NamedFilesExist) {
  const Exists exists = [](const std::string& path) { return path == "protocol/tasks.h"; };
  const auto named = [&](const std::string& text) {
    return check_named_files({"model/a.h", text}, exists).size();
  };
  EXPECT_EQ(named("// ids of protocol/tasks.h, in their order"), 0U);
  EXPECT_EQ(named("// ids of protocol/task.h, in their order"), 1U);
  EXPECT_EQ(named("// see docs/gone.md."), 1U);
  EXPECT_EQ(named("// every bench/NAME.cpp is a program"), 0U);
  EXPECT_EQ(named("#include \"build/protocol/x.h\""), 0U);
  EXPECT_EQ(named("#include \"protocol/envelope.pb.h\""), 0U);
}

TEST(TextRules, EveryTestAndBenchmarkIsBuilt) {
  const auto check = [](const std::string& path) {
    return check_is_built({path, ""},
                          "add_library(x support/program.cpp)\ncrabcast_tests(data unit LINK x)\n",
                          "crabcast_bench(sampler LINK x)\n")
        .size();
  };
  EXPECT_EQ(check("tests/data/a_test.cpp"), 0U);
  EXPECT_EQ(check("tests/dat/helper.h"), 0U);
  EXPECT_EQ(check("tests/support/main.cpp"), 0U);
  EXPECT_EQ(check("tests/support/program.cpp"), 0U);
  EXPECT_EQ(check("bench/sampler.cpp"), 0U);
  EXPECT_EQ(check("model/a.cpp"), 0U);
  EXPECT_EQ(check("tests/dat/a_test.cpp"), 1U);
  EXPECT_EQ(check("tests/support/other.cpp"), 1U);
  EXPECT_EQ(check("bench/transport.cpp"), 1U);
}

}  // namespace
}  // namespace crabcast::house
