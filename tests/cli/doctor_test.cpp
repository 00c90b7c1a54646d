// doctor on a healthy machine and on folders that are not.
#include "tests/cli/cli_fixture.h"

namespace crabcast::testing {
namespace {

namespace fs = std::filesystem;

using ::testing::HasSubstr;

class DoctorTest : public CliTest {
 protected:
  // crabcast in a folder of its own, with a crabcast-compute that says `compute`.
  DoctorTest() {
    fs::create_directories(folder_ / "bin");
    fs::copy_file(program("crabcast"), crabcast());
  }
  [[nodiscard]] std::string crabcast() const { return folder_ / "bin" / "crabcast"; }
  void put_compute(const std::string& script) const {
    const auto file = folder_ / "bin" / "crabcast-compute";
    write_file(file, "#!/bin/sh\n" + script + "\n");
    fs::permissions(file, fs::perms::owner_all);
  }
  [[nodiscard]] json doctor(int code) const {
    const auto done = run_program(crabcast(), {"doctor", "--json", "--state", state()});
    EXPECT_EQ(done.code, code) << done.out << done.err;
    return json::parse(done.out);
  }
  static json check(const json& report, const std::string& name) {
    for (const auto& one : report.at("checks"))
      if (one.at("name") == name) return one;
    ADD_FAILURE() << "no check is named " << name;
    return {};
  }
};

TEST_F(DoctorTest, AHealthyMachinePasses) {
  put_compute("echo crabcast-compute 0.1.0 '(protocol 1)'");
  const json report = doctor(0);
  EXPECT_EQ(report.at("ok"), true);
  for (const char* name :
       {"state folder", "free space", "keys", "registry", "clock", "ports", "open files", "memory",
        "cores", "crabcast-compute", "gpus", "controller"}) {
    EXPECT_NE(check(report, name).at("verdict"), "fail") << name;
    EXPECT_NE(check(report, name).at("finding"), "") << name;
  }
  EXPECT_THAT(check(report, "crabcast-compute").at("finding").get<std::string>(),
              HasSubstr("crabcast-compute 0.1.0 (protocol 1), starts in"));
  EXPECT_FALSE(fs::exists(state())) << "looking must not make anything";
  const auto text = run_program(crabcast(), {"doctor", "--state", state()});
  EXPECT_EQ(text.code, 0);
  EXPECT_THAT(text.out, HasSubstr("ok    state folder: "));
}

TEST_F(DoctorTest, ComputeMustBeThereStartAndBeOfThisVersion) {
  EXPECT_THAT(check(doctor(1), "crabcast-compute").at("finding").get<std::string>(),
              HasSubstr("is not beside crabcast"));
  put_compute("echo cannot open libtorch_cpu.so >&2; exit 127");
  EXPECT_THAT(check(doctor(1), "crabcast-compute").at("finding").get<std::string>(),
              HasSubstr("does not start: cannot open libtorch_cpu.so"));
  put_compute("echo crabcast-compute 0.0.1");
  const json old = check(doctor(1), "crabcast-compute");
  EXPECT_EQ(old.at("verdict"), "fail");
  EXPECT_THAT(old.at("finding").get<std::string>(), HasSubstr("crabcast-compute 0.0.1"));
}

TEST_F(DoctorTest, KeysThatOthersCanReadFail) {
  put_compute("echo crabcast-compute 0.1.0");
  const auto keys = state() / "keys";
  for (const char* name : {"client.public", "client.secret", "server.public", "server.secret"})
    write_file(keys / name, "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID\n");
  fs::permissions(keys / "client.secret", fs::perms::owner_all | fs::perms::others_read);
  const json found = check(doctor(1), "keys");
  EXPECT_EQ(found.at("verdict"), "fail");
  EXPECT_THAT(found.at("finding").get<std::string>(), HasSubstr("can be read by other users"));
}

TEST_F(DoctorTest, AStateFolderThatIsAFileFails) {
  put_compute("echo crabcast-compute 0.1.0");
  write_file(state(), "");
  const json report = doctor(1);
  EXPECT_EQ(check(report, "state folder").at("verdict"), "fail");
  const auto text = run_program(crabcast(), {"doctor", "--state", state()});
  EXPECT_THAT(text.out, HasSubstr("FAIL  state folder: "));
  EXPECT_THAT(text.out, HasSubstr("is not a folder; choose another one with --state"));
}

TEST_F(DoctorTest, FewOpenFilesFail) {
  put_compute("echo crabcast-compute 0.1.0");
  const auto done = run_program(
      "/bin/bash",
      {"-c", "ulimit -n 64; exec " + crabcast() + " doctor --json --state " + state().string()});
  EXPECT_EQ(done.code, 1) << done.out << done.err;
  EXPECT_EQ(check(json::parse(done.out), "open files").at("finding"), "limit 64");
}

}  // namespace
}  // namespace crabcast::testing
