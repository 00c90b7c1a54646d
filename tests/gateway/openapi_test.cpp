// docs/openapi.json is what the gateway does: the file is the table of routes, every path and
// method of it is asked, and every answer is held to its schema.
#include "actors/control/gateway/openapi.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <set>

#include "tests/gateway/stub_controller.h"

namespace crabcast::gateway {
namespace {

using nlohmann::json;

std::filesystem::path page_of(const std::string& name) {
  const char* source = std::getenv("CRABCAST_SOURCE");
  return std::filesystem::path(source == nullptr ? "." : source) / "docs" / name;
}

// What of JSON Schema the file uses. Empty: `value` fits.
class Schema {
 public:
  explicit Schema(const json& file) : file_(file) {}
  std::string mistake(const json& value, const json& schema, const std::string& at = "$") const;

 private:
  std::string mistake_of_object(const json& value, const json& schema, const std::string& at) const;
  const json& file_;
};

std::string Schema::mistake(const json& value, const json& schema, const std::string& at) const {
  if (schema.contains("$ref"))
    return mistake(value, file_.at(json::json_pointer(schema["$ref"].get<std::string>().substr(1))),
                   at);
  if (value.is_null() && schema.value("nullable", false)) return "";
  const std::string type = schema.value("type", "");
  const bool fits =
      (type == "object" && value.is_object()) || (type == "array" && value.is_array()) ||
      (type == "string" && value.is_string()) || (type == "boolean" && value.is_boolean()) ||
      (type == "integer" && value.is_number_integer()) || (type == "number" && value.is_number());
  if (!fits) return at + " is no " + type + ": " + value.dump();
  if (schema.contains("enum") &&
      std::find(schema["enum"].begin(), schema["enum"].end(), value) == schema["enum"].end())
    return at + " is none of its names: " + value.dump();
  if (schema.contains("minimum") && value < schema["minimum"]) return at + " is too small";
  if (type == "object") return mistake_of_object(value, schema, at);
  if (type == "array")
    for (std::size_t i = 0; i < value.size(); ++i)
      if (auto wrong = mistake(value[i], schema["items"], at + "[" + std::to_string(i) + "]");
          !wrong.empty())
        return wrong;
  return "";
}

std::string Schema::mistake_of_object(const json& value, const json& schema,
                                      const std::string& at) const {
  for (const auto& name : schema.value("required", json::array()))
    if (!value.contains(name)) return at + " has no " + name.get<std::string>();
  for (const auto& [name, field] : value.items()) {
    const auto& known = schema.value("properties", json::object());
    std::string wrong;
    if (known.contains(name))
      wrong = mistake(field, known[name], at + "." + name);
    else if (schema.value("additionalProperties", json(true)).is_object())
      wrong = mistake(field, schema["additionalProperties"], at + "." + name);
    else if (schema.value("additionalProperties", json(true)) == json(false))
      wrong = at + " has an unknown " + name;
    if (!wrong.empty()) return wrong;
  }
  return "";
}

class OpenApiTest : public ::testing::Test {
 protected:
  OpenApiTest() {
    options_.tokens = folder_ / "tokens";
    options_.version = "1";
    api_ = std::make_unique<Api>(options_, std::make_unique<StubAsk>(controller_));
    auto& job = controller_->job("alice-1");
    job.set_step(3);
    job.add_losses()->set_task("captioning");
    job.mutable_stages()->set_data(1);
    auto& actor = *job.add_actors();
    actor.set_state(pb::ACTOR_SUSPECT);
    auto& evaluation = *job.mutable_evaluation();
    evaluation.add_examples()->mutable_sample()->set_index(4);
    (*evaluation.add_scores()->mutable_details())["bleu"] = 0.1;
    controller_->add_event("alice-1", "incident", true);
  }
  // The answer to an operation with values from its own schemas.
  Response ask(const std::string& path, const std::string& method, const json& operation) {
    std::string target = path, verb = method;
    for (const auto& [name, value] :
         {std::pair{"{job}", "alice-1"}, {"{role}", "worker-0"}, {"{node}", "node-a"}})
      if (const auto at = target.find(name); at != std::string::npos)
        target.replace(at, std::string(name).size(), value);
    for (char& c : verb) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    json body = json::object();
    if (operation.contains("requestBody")) {
      const auto& schema = operation["requestBody"]["content"]["application/json"]["schema"];
      for (const auto& [name, field] : schema["properties"].items())
        body[name] = field["type"] == "boolean"   ? json(false)
                     : field["type"] == "integer" ? json(field.value("minimum", 1))
                     : name == "spec"             ? json(kSpec)
                                                  : json("text");
    }
    return api_->handle(request(verb, target, "", verb == "GET" ? "" : body.dump()));
  }

  testing::TemporaryFolder folder_;
  std::shared_ptr<StubController> controller_ = std::make_shared<StubController>();
  ApiOptions options_;
  std::unique_ptr<Api> api_;
};

TEST_F(OpenApiTest, ThePageIsTheTable) {
  const auto page = page_of("openapi.json");
  if (std::getenv("CRABCAST_REGENERATE") != nullptr) testing::write_file(page, openapi());
  EXPECT_EQ(testing::read_file(page), openapi())
      << "run test_gateway with CRABCAST_REGENERATE=1 to write " << page;
}

// As the standard asks for.
void expect_no_name_twice(const json& part, const std::string& at) {
  if (part.is_object() && part.contains("required") && part["required"].is_array()) {
    const auto names = part["required"].get<std::vector<std::string>>();
    EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size()) << at;
  }
  if (!part.is_structured()) return;
  for (const auto& [key, below] : part.items()) expect_no_name_twice(below, at + "/" + key);
}

TEST_F(OpenApiTest, NoFieldIsRequiredTwice) {
  expect_no_name_twice(json::parse(openapi()), "");
}

TEST_F(OpenApiTest, EveryOperationAnswersAsItSays) {
  const json file = json::parse(openapi());
  const Schema schemas(file);
  std::size_t operations = 0;
  for (const auto& [path, methods] : file["paths"].items()) {
    for (const auto& [method, operation] : methods.items()) {
      const auto response = ask(path, method, operation);
      const auto status = std::to_string(response.status);
      const std::string what = method + " " + path + ": " + response.body;
      ASSERT_TRUE(operation["responses"].contains(status)) << status << " " << what;
      json described = operation["responses"][status];
      if (described.contains("$ref"))
        described = file.at(json::json_pointer(described["$ref"].get<std::string>().substr(1)));
      const auto type = response.type.substr(0, response.type.find(';'));
      ASSERT_TRUE(described["content"].contains(type)) << response.type << " " << what;
      if (type == "application/json")
        EXPECT_EQ(schemas.mistake(json::parse(response.body), described["content"][type]["schema"]),
                  "")
            << what;
      // The stream finds the end of the events first; hold is what this controller cannot do.
      if (path != "/api/v1/events/stream" && path.find("hold") == std::string::npos &&
          path.find("release") == std::string::npos)
        EXPECT_LT(response.status, 300) << what;
      ++operations;
    }
  }
  EXPECT_GT(operations, 25U);
}

TEST_F(OpenApiTest, EveryErrorIsOneThatItsOperationNames) {
  const json file = json::parse(openapi());
  const Schema schemas(file);
  const json& error = file["components"]["schemas"]["Error"];
  for (int code = 1; code <= 24; ++code) {
    controller_->fail_with({errc_from_number(static_cast<std::uint32_t>(code)), "why \xff"});
    for (const auto& [path, methods] : file["paths"].items()) {
      for (const auto& [method, operation] : methods.items()) {
        const auto response = ask(path, method, operation);
        if (response.status < 300) continue;
        EXPECT_TRUE(operation["responses"].contains(std::to_string(response.status)))
            << method << " " << path << " " << response.status;
        if (response.type == "application/json")
          EXPECT_EQ(schemas.mistake(json::parse(response.body), error), "") << response.body;
      }
    }
  }
}

TEST(Schema, FindsMistakes) {
  const json file = json::parse(openapi());
  const Schema schemas(file);
  const json& error = file["components"]["schemas"]["Error"];
  const json good = {{"error", {{"code", "a"}, {"message", "b"}}}};
  EXPECT_EQ(schemas.mistake(good, error), "");
  json bad = good;
  bad["error"]["code"] = 3;
  EXPECT_NE(schemas.mistake(bad, error), "");
  bad = good;
  bad["error"].erase("message");
  EXPECT_NE(schemas.mistake(bad, error), "");
  bad = good;
  bad["more"] = 1;
  EXPECT_NE(schemas.mistake(bad, error), "");
}

}  // namespace
}  // namespace crabcast::gateway
