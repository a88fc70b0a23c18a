# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Promises that the layout of the repository and of the collection keeps."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import ansible
import jinja2
import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule

REPOSITORY = Path(__file__).resolve().parent.parent
COLLECTION = REPOSITORY / "collections/ansible_collections/modelfleet/serving"
ROLES = sorted(path for path in (COLLECTION / "roles").iterdir() if path.is_dir())
MODULES = sorted((COLLECTION / "plugins/modules").glob("*.py"))
FILTERS = sorted((COLLECTION / "plugins/filter").glob("*.py"))
PLAYBOOKS = sorted((COLLECTION / "playbooks").glob("[!_]*.yml"))
BUNDLED = Path(ansible.__file__).parent.parent / "ansible_collections"
DOORS = sorted((REPOSITORY / "playbooks").glob("*.yml"))


def load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None


def tracked():
    names = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split("\0")
    return [REPOSITORY / name for name in names if name and (REPOSITORY / name).is_file()]


def documentation(path):
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "DOCUMENTATION":
            return yaml.safe_load(node.value.value)
    return None


def imported(plugin, kind="modules"):
    sys.path.insert(0, str(COLLECTION.parents[2]))
    return importlib.import_module(f"ansible_collections.modelfleet.serving.plugins.{kind}.{plugin.stem}")


def attributes(module):
    """What the documentation of a module promises, its fragments included."""
    documented = documentation(module)
    sys.path.insert(0, str(COLLECTION.parents[2]))
    from ansible_collections.modelfleet.serving.plugins.doc_fragments.attributes import ModuleDocFragment

    texts = {"modelfleet.serving.attributes": ModuleDocFragment.DOCUMENTATION, "modelfleet.serving.attributes.info": ModuleDocFragment.INFO}
    promised = {}
    for name in documented["extends_documentation_fragment"]:
        promised.update(yaml.safe_load(texts[name])["attributes"] if name in texts else {})
    for name, said in documented.get("attributes", {}).items():
        promised[name] = {**promised.get(name, {}), **said}
    return promised


def test_there_is_something_to_test():
    assert len(ROLES) >= 7
    assert len(MODULES) >= 12
    assert len(PLAYBOOKS) >= 3


def options_of(role):
    """Those of the role modelfleet are with the role variables."""
    place = role.with_name("variables") if role.name == "modelfleet" else role
    return load(place / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]


def defaults_of(role):
    place = role.with_name("modelfleet") if role.name == "variables" else role
    return load(place / "defaults/main.yml") or {}


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
class TestRole:
    def test_has_a_readme(self, role):
        assert (role / "README.md").exists()

    def test_defaults_are_the_documented_options(self, role):
        options, defaults = options_of(role), defaults_of(role)
        optional = {name for name, option in options.items() if not option.get("required")}
        assert set(defaults) - set(options) == set(), "not documented in meta/argument_specs.yml"
        assert optional - set(defaults) == set(), "has no default in defaults/main.yml"

    def test_documents_the_defaults_that_it_has(self, role):
        options, defaults = options_of(role), defaults_of(role)
        different = {
            name: (option["default"], defaults[name])
            for name, option in options.items()
            if name in defaults and "default" in option and option["default"] != defaults[name] and "{{" not in str(defaults[name])
        }
        assert different == {}, "(documented, real)"

    def test_its_variables_carry_its_name(self, role):
        for path in (role / "defaults/main.yml", role / "vars/main.yml"):
            for name in load(path) or {} if path.exists() else {}:
                assert name.startswith((f"{role.name}_", f"__{role.name}_")), f"{name} in {path}"

    def test_depends_on_the_role_that_owns_the_fleet(self, role):
        dependencies = load(role / "meta/main.yml")["dependencies"]
        once = "not (__modelfleet_validated | default(false))"
        wanted = [] if role.name in ("modelfleet", "variables") else [{"role": "modelfleet.serving.modelfleet", "when": once}]
        assert dependencies == wanted

    def test_the_specification_of_the_fleet_is_read_once(self, role):
        """It is long, and Ansible reads that of a role again for each task that includes the role or depends on it."""
        assert (role / "meta/argument_specs.yml").exists() is (role.name != "modelfleet")
        users = [path for path in COLLECTION.rglob("*.yml") if "modelfleet.serving.variables\n" in path.read_text(encoding="utf-8")]
        assert users == [COLLECTION / "roles/modelfleet/tasks/validate.yml"]


@pytest.mark.parametrize("template", sorted(COLLECTION.glob("roles/*/templates/**/*.*.j2")), ids=lambda path: path.name)
def test_template_says_who_manages_the_file(template):
    """In the first line, or in the second below a shebang, in words that no configuration of Ansible changes: the text of a unit must be
    the same whoever runs the play. A template with one suffix is a part that others include."""
    head = "".join(template.read_text(encoding="utf-8").splitlines()[:2])
    assert "Managed by Ansible (modelfleet.serving): changes made here are lost." in head or head.startswith(
        "{{ lookup('ansible.builtin.file'"
    )
    assert not re.search(r"ansible_(managed|user|date_time|controller)|(?<!\.)now\(", template.read_text(encoding="utf-8"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
class TestModule:
    def test_keeps_what_it_promises_of_check_mode(self, module, monkeypatch):
        """Ansible skips a module in check mode unless the module itself says that it can."""
        said = []

        def construct(*_args, **keywords):
            said.append(keywords.get("supports_check_mode", False))
            raise InterruptedError

        monkeypatch.setattr(AnsibleModule, "__init__", construct)
        with pytest.raises(InterruptedError):
            imported(module).main()
        assert said == [attributes(module)["check_mode"]["support"] in ("full", "partial")]

    def test_is_tested_for_what_it_promises(self, module):
        """Check mode, diff and a second run, each by a test that would fail without."""
        promised = attributes(module)
        text = (COLLECTION / f"tests/unit/plugins/modules/test_{module.stem}.py").read_text(encoding="utf-8")
        if promised["idempotent"]["support"] == "full" and promised["diff_mode"]["support"] != "N/A":
            assert re.search(r"assert not .*\[\"changed\"\]|\[\"changed\"\] is False", text)
            assert re.search(r"check=True|\bcheck=check\b", text)
        if promised["diff_mode"]["support"] == "full":
            assert re.search(r"\[\"diff\"\]", text)

    def test_keeps_to_itself_what_may_hold_a_secret(self, module):
        """AnsibleModule notes all options in the host's journal before the module can hide any, free keys and whole files as well."""

        def may_hold_one(options):
            for name, option in options.items():
                free = option.get("type") == "dict" and "suboptions" not in option
                if free or name in ("content", "url", "index_url") or may_hold_one(option.get("suboptions", {})):
                    return True
            return False

        documented = documentation(module)
        if may_hold_one(documented["options"]) or "modelfleet.serving.storage" in documented["extends_documentation_fragment"]:
            source = module.read_text(encoding="utf-8")
            assert "DiscreetModule(" in source or "StorageModule(" in source

    def test_is_in_an_action_group(self, module):
        groups = load(COLLECTION / "meta/runtime.yml")["action_groups"]
        assert any(module.stem in actions for actions in groups.values())

    def test_has_a_unit_test(self, module):
        assert (COLLECTION / f"tests/unit/plugins/modules/test_{module.stem}.py").exists()


@pytest.mark.parametrize("plugin", FILTERS, ids=lambda path: path.stem)
def test_filter_has_a_unit_test(plugin):
    assert (COLLECTION / f"tests/unit/plugins/filter/test_{plugin.stem}.py").exists()


@pytest.mark.parametrize("plugin", FILTERS, ids=lambda path: path.stem)
def test_every_filter_is_documented_under_its_name(plugin):
    """ansible-doc shows what a file says of itself for every filter in it."""
    names = list(imported(plugin, "filter").FilterModule().filters())
    pages = [load(plugin.with_name(f"{name}.yml")) or {"DOCUMENTATION": documentation(plugin)} for name in names]
    assert [page["DOCUMENTATION"]["name"] for page in pages] == names
    assert len(names) == 1 or documentation(plugin) is None


def test_action_groups_name_only_modules():
    groups = load(COLLECTION / "meta/runtime.yml")["action_groups"]
    named = {action for actions in groups.values() for action in actions if isinstance(action, str)}
    assert named <= {module.stem for module in MODULES}
    # The defaults of a group reach every module in it.
    for name in groups["torchserve"]:
        assert {"base_url", "key_file"} <= set(documentation(COLLECTION / f"plugins/modules/{name}.py")["options"]), name


def test_no_symlinks_in_the_collection():
    """A link vanishes from the built collection without a word."""
    assert [path for path in COLLECTION.rglob("*") if path.is_symlink()] == []


def test_no_ignore_files():
    assert list(COLLECTION.glob("tests/sanity/ignore*")) == []
    assert not (REPOSITORY / ".ansible-lint-ignore").exists()


def written_values(node):
    if isinstance(node, yaml.ScalarNode):
        yield node
    for child in node.value if isinstance(node.value, list) else []:
        for one in child if isinstance(child, tuple) else (child,):
            yield from written_values(one)


def test_no_expression_holds_an_escape_for_a_line_end():
    r"""A backslash that YAML left in an expression stays: '\n' is a line end only within YAML's double quotes, and for a regular one."""
    found = []
    for path in tracked():
        if path.suffix != ".yml" or not path.is_relative_to(COLLECTION):
            continue
        for value in (one for whole in yaml.compose_all(path.read_text(encoding="utf-8")) if whole for one in written_values(whole)):
            if re.search(r"(?<!\$', )'[^'{}]*\\n", "".join(re.findall(r"\{\{.*?\}\}", value.value, re.DOTALL))):
                found.append(f"{path.relative_to(COLLECTION)}:{value.start_mark.line + 1}")
    assert found == []


def test_no_role_has_two_homes():
    ours = {path.name for path in (REPOSITORY / "roles").glob("*") if path.is_dir()}
    assert ours & {role.name for role in ROLES} == set()
    assert all(name.startswith("lab_") for name in ours), "a product role belongs into the collection"


@pytest.mark.parametrize("playbook", DOORS, ids=lambda path: path.name)
def test_top_level_playbook_is_a_door_or_the_labs(playbook):
    if not playbook.name.startswith("lab_"):
        plays = load(playbook)
        assert [set(play) for play in plays] == [{"name", "ansible.builtin.import_playbook"}]
        assert plays[0]["ansible.builtin.import_playbook"] == f"modelfleet.serving.{playbook.stem}"


def test_every_playbook_of_the_collection_has_a_door():
    assert {path.name for path in PLAYBOOKS} <= {path.name for path in DOORS}


def test_built_collection_is_whole(run, tmp_path):
    built = run("ansible-galaxy", "collection", "build", "--output-path", tmp_path, COLLECTION)
    assert built.returncode == 0, built.stdout
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = set(tar.getnames())
    product = [path for part in ("roles", "plugins", "playbooks", "meta") for path in (COLLECTION / part).rglob("*") if path.is_file()]
    wanted = {str(path.relative_to(COLLECTION)) for path in product if "__pycache__" not in path.parts}
    assert wanted - names == set()
    assert any(name.startswith("roles/endpoint_plugin/files/src/") and name.endswith(".java") for name in names)
    assert [name for name in names if name.startswith("tests/") or "__pycache__" in name or name.endswith(".tar.gz")] == []


def test_requirements_name_every_collection_that_is_used():
    """The development environment has them all, so nothing else would miss one."""
    used = set()
    for path in tracked():
        # What asks a cloud is a sample, and nothing here runs it.
        if path.suffix in (".yml", ".j2") and not {COLLECTION, REPOSITORY / "inventory/dynamic"} & set(path.parents):
            found = re.findall(r"\b([a-z]\w*)\.([a-z]\w*)\.[a-z]\w*\b", path.read_text(encoding="utf-8"))
            used |= {f"{first}.{second}" for first, second in found if (BUNDLED / first / second / "MANIFEST.json").exists()}
    assert used == {one["name"] for one in load(REPOSITORY / "requirements.yml")["collections"]}


def test_requirements_are_met_by_the_development_environment(run):
    installed = run("ansible-galaxy", "collection", "install", "--offline", "-r", "requirements.yml")
    assert installed.returncode == 0, installed.stdout
    assert "Nothing to do" in installed.stdout


@pytest.mark.parametrize(
    "playbook", [f"playbooks/{path.name}" for path in DOORS] + [f"modelfleet.serving.{path.stem}" for path in PLAYBOOKS]
)
def test_playbook_syntax(run, playbook):
    checked = run("ansible-playbook", "-i", "inventory/lab", "--syntax-check", playbook)
    assert checked.returncode == 0, checked.stdout
    assert "WARN" not in checked.stdout, checked.stdout


def test_a_play_for_clusters_says_that_there_is_none(run):
    done = run("ansible-playbook", "-i", "inventory/lab", "modelfleet.serving.kubernetes_uninstall")
    assert done.returncode == 2 and "The inventory names no Kubernetes cluster" in " ".join(done.stdout.split())


def test_sample_inventory_is_valid(run):
    listed = run("ansible-inventory", "-i", "inventory/sample", "--list")
    assert listed.returncode == 0, listed.stdout
    inventory = yaml.safe_load(listed.stdout)
    assert {"dragonfly_schedulers", "dragonfly_seed_peers", "gpu_hosts"} <= set(inventory["all"]["children"])


def test_expressions_for_a_cloud_sort_its_hosts(run, tmp_path):
    """As its own plugin does, which needs the cloud."""
    said = load(REPOSITORY / "inventory/dynamic/aws_ec2.yml")
    machines = {"i-1": "gpu", "i-2": "seed", "i-3": "scheduler"}
    hosts = {name: {"private_ip_address": f"10.0.0.{name[2]}", "tags": {"modelfleet": role}} for name, role in machines.items()}
    (tmp_path / "1.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}), encoding="utf-8")
    expressions = {key: said[key] for key in ("strict", "compose", "groups")}
    (tmp_path / "2.yml").write_text(yaml.safe_dump({"plugin": "ansible.builtin.constructed", **expressions}), encoding="utf-8")
    listed = run("ansible-inventory", "-i", tmp_path, "--list")
    assert listed.returncode == 0, listed.stdout
    # The plugin for Amazon calls a variable "tags", of which Ansible warns.
    inventory = yaml.safe_load(listed.stdout[listed.stdout.index("\n{") :])
    assert [inventory[group]["hosts"] for group in ("gpu_hosts", "dragonfly_seed_peers", "dragonfly_schedulers")] == [
        ["i-1"],
        ["i-2"],
        ["i-3"],
    ]
    assert inventory["_meta"]["hostvars"]["i-2"]["modelfleet_address"] == "10.0.0.2"


def test_a_source_of_hosts_that_fails_ends_the_run(run, tmp_path):
    """It would shut out its hosts otherwise."""
    (tmp_path / "hosts.yml").write_text("all: {hosts: {gpu-1: }}\n", encoding="utf-8")
    (tmp_path / "kubernetes_nodes.yml").write_text(
        f"plugin: modelfleet.serving.kubernetes_nodes\nkubeconfig: {tmp_path}/none\n", encoding="utf-8"
    )
    listed = run("ansible-inventory", "-i", tmp_path, "--list")
    said = " ".join(listed.stdout.split())
    assert listed.returncode != 0 and f"Failed to read the kubeconfig {tmp_path}/none" in said and "Traceback" not in said, said


def test_sample_inventory_names_only_real_options():
    options = {name for role in ROLES for name in options_of(role)}
    for path in sorted((REPOSITORY / "inventory/sample/group_vars/all").glob("*.yml")):
        # Commented lines of the menu count as well.
        named = re.findall(r"^(?:# )?([a-z]\w*):(?: |$)", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert named, path.name
        assert set(named) - options == set(), path.name


@pytest.mark.parametrize(("timeout", "expiry"), [(None, 3600), (10, 60), (30, 60), (302400, 604800), (10**6, 604800)])
def test_a_signed_url_lives_as_long_as_the_stores_allow(timeout, expiry):
    """However long a run waits for a model."""
    default = load(COLLECTION / "roles/endpoint_plugin/defaults/main.yml")["endpoint_plugin_url_expiry"]
    variables = {} if timeout is None else {"torchserve_models_timeout": timeout}
    assert jinja2.Template(default).render(variables) == str(expiry)


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
def test_a_role_shows_an_example(role):
    assert "\n```" in (role / "README.md").read_text(encoding="utf-8")


# The parts are joined here, so that this file passes its own test.
FORBIDDEN = [
    re.compile(r"(?<![\w.~-])/" + "work/"),
    re.compile(r"/tmp/" + r"mf\b"),
    re.compile("BEGIN [A-Z ]*PRIVATE " + "KEY"),
    re.compile(r"AKIA(?!LAB|IOSFODNN7EXAMPLE|EXAMPLE)[A-Z0-9]{16}"),
    re.compile(r"gh[pousr]_[A-Za-z0-9]{36}"),
]


def tasks_of(items):
    """Every play, block and task below a list of them."""
    for item in items:
        yield item
        for key in ("tasks", "pre_tasks", "post_tasks", "block", "rescue", "always"):
            yield from tasks_of(item.get(key) or [])


def keywords():
    """(place, keywords) of everything in the plays and roles of the collection, and of what an include gives its tasks."""
    for path in [*(COLLECTION / "playbooks").glob("*.yml"), *(COLLECTION / "roles").glob("*/tasks/**/*.yml")]:
        for item in tasks_of(load(path) or []):
            for one in (item, (item.get("ansible.builtin.include_role") or {}).get("apply", {})):
                yield f"{path}: {item.get('name')}", one


def test_work_on_the_controller_never_becomes():
    """A group variable ansible_become beats the keyword, so the variable is said where the controller works."""
    seen = 0
    for place, one in keywords():
        if one.get("hosts") == "localhost" or "localhost" in str(one.get("delegate_to", "")):
            seen += 1
            assert one.get("become") is False and (one.get("vars") or {}).get("ansible_become") is False, place
    assert seen >= 4


def test_work_on_another_host_says_where_that_is():
    """Of delegate_to Ansible takes the variables, but leaves inventory_hostname, of which an inventory may make ansible_host, as it is.

    A loop over such a task would not do, see the next test; one over what includes it does.
    """
    seen = 0
    for place, one in keywords():
        if "localhost" not in one.get("delegate_to", "localhost"):
            seen += 1
            assert "ansible_host" in (one.get("vars") or {}) and "loop" not in one, place
    assert seen >= 4


DELEGATIONS = {
    "rollout": ("all_unlocked", {"__rollout_looked_at": ["b", "c"], "modelfleet_rollout_take_over": False}),
    "torchserve": ("adopt", {}),
    "dfdaemon": ("seed_ready", {"__dfdaemon_addresses": {"upload": {"host": "127.0.0.2", "authority": "x", "bind": {"port": 1}}}}),
    "haproxy": ("hooks/haproxy", {"modelfleet_haproxy_group": "dragonfly_schedulers", "__rollout_hook_state": "drain"}),
}


@pytest.mark.parametrize("role", DELEGATIONS)
@pytest.mark.parametrize("written", ["for each", "of the name"])
def test_work_on_another_host_goes_there_by_ssh(run, tmp_path, role, written):
    """Whose connections are made of variables by other rules than those of a container. Nobody listens at these addresses."""
    numbers, others = {"a": 2, "b": 3, "c": 4}, {"hosts": {"b": {}, "c": {}}}
    addresses = {name: {"ansible_host": f"127.0.0.{number}"} if written == "for each" else {} for name, number in numbers.items()}
    of_name = {} if written == "for each" else {"ansible_host": f"127.0.0.{{{{ {numbers}[inventory_hostname] }}}}"}
    inventory = {
        "all": {
            "hosts": addresses,
            "vars": {"ansible_port": 1, **of_name},
            "children": dict.fromkeys(("dragonfly_schedulers", "gpu_hosts"), others),
        }
    }
    tasks_from, variables = DELEGATIONS[role]
    included = {"name": f"modelfleet.serving.{'rollout' if role == 'haproxy' else role}", "tasks_from": tasks_from}
    play = {"hosts": "a", "gather_facts": False, "ignore_unreachable": True}
    play["vars"] = {**variables, "modelfleet_storage": {"http": {"url": "https://files.example.com"}}}
    play["tasks"] = [{"ansible.builtin.include_role": {**included, "rolespec_validate": False}}]
    for name, content in (("hosts", inventory), ("play", [play])):
        (tmp_path / f"{name}.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
    done = run("ansible-playbook", "-vvv", "-i", tmp_path / "hosts.yml", tmp_path / "play.yml")
    called = re.findall(r"<(\S+)> ESTABLISH SSH CONNECTION", done.stdout)
    assert {"127.0.0.3", "127.0.0.4"} <= set(called) and "127.0.0.2" not in called[:2], done.stdout[-3000:]


@pytest.mark.parametrize("scenario", sorted((REPOSITORY / "molecule").glob("*/molecule.yml")), ids=lambda path: path.parent.name)
def test_a_scenario_has_a_play_for_each_of_its_steps(scenario):
    """A step without one fails, or is left out without a word."""
    play_of = dict.fromkeys(("syntax", "check", "converge", "idempotence"), "converge")
    steps = set(load(scenario)["scenario"]["test_sequence"]) - {"verify"}
    assert steps >= {"create", "destroy"}
    assert [step for step in steps if not (scenario.parent / f"{play_of.get(step, step)}.yml").exists()] == []


def test_no_machine_paths_and_no_secrets_in_the_repository():
    found = []
    for path in tracked():
        text = path.read_text(encoding="utf-8", errors="replace")
        found.extend(f"{path.relative_to(REPOSITORY)}: {match.group(0)}" for word in FORBIDDEN for match in [word.search(text)] if match)
    assert found == []


def test_yaml_reports_nothing_as_ignored():
    """Every task's outcome counts: a failure is handled or it stops the play."""
    ignoring = [path for path in tracked() if path.suffix == ".yml" and "ignore" + "_errors" in path.read_text(encoding="utf-8")]
    assert ignoring == []


def test_a_store_is_the_same_everywhere():
    """In Python, in the documentation of the modules, in the role that checks the variables, and in Java."""
    sys.path.insert(0, str(COLLECTION.parents[2]))
    from ansible_collections.modelfleet.serving.plugins.doc_fragments.storage import ModuleDocFragment
    from ansible_collections.modelfleet.serving.plugins.module_utils import _storage

    def flat(option, documented=False, place=""):
        """Every option by its place, with all that is said of it but its description."""
        children = "suboptions" if documented else "options"
        kept = {"required": False} if documented else {"required": False, "no_log": False}
        for key, value in option.items():
            if key not in ("description", children):
                kept[key] = [list(one) if isinstance(one, tuple) else one for one in value] if isinstance(value, (list, tuple)) else value
        yield place, kept
        for name, one in option.get(children, {}).items():
            yield from flat(one, documented, f"{place}.{name}")

    def as_documented(spec):
        """Without what the documentation of a module does not have."""
        rules = ("no_log", "mutually_exclusive", "required_one_of", "required_together", "required_if", "required_by")
        return {place: {key: value for key, value in option.items() if key not in rules} for place, option in spec.items()}

    role = options_of(COLLECTION / "roles/variables")
    for spec, documented, variable in (
        (_storage.storage_argument_spec(), ModuleDocFragment.DOCUMENTATION, "modelfleet_storage"),
        (_storage.credentials_argument_spec(), ModuleDocFragment.CREDENTIALS, "modelfleet_publish_credentials"),
    ):
        ((_name, option),) = yaml.safe_load(documented)["options"].items()
        assert list(spec["options"]) == list(_storage.STORES)
        ours, of_role = dict(flat(spec)), dict(flat(role[variable]))
        assert as_documented(ours) == dict(flat(option, documented=True))
        # A variable has a default where an option is required.
        assert (ours[""].pop("required"), of_role[""].pop("default")) in ((True, {}), (False, {}))
        of_role[""].pop("required")
        assert ours == of_role
        # The other half of a pair, an id or a name, is no secret, and neither is the path of a file.
        secret = re.compile(r"secret|token(?!_path)|_json$|account_key$|headers\.value$")
        assert {place for place, one in ours.items() if one["no_log"]} == {place for place in ours if secret.search(place)}
        for place, one in ours.items():
            assert not one["no_log"] or one["type"] == ("json" if place.endswith("_json") else "str")

    java = COLLECTION / "roles/endpoint_plugin/files/src/org/modelfleet/serving/endpoint"
    cases = re.findall(r'case "(\w+)":\s*return new (\w+)\(', (java / "EndpointConfig.java").read_text(encoding="utf-8"))
    assert sorted(name for name, _class in cases) == sorted(_storage.STORES)
    assert [class_ for _name, class_ in cases if not (java / f"{class_}.java").exists()] == []


def test_every_part_of_site_can_be_run_by_its_tag():
    """Plays have the tags, because what is included in them has theirs; what is checked and reported always is."""
    plays = load(COLLECTION / "playbooks/site.yml")
    found = {tag for play in plays for tag in play.get("tags", [])}
    assert found - {"always"} == {
        *("dragonfly_scheduler", "dfdaemon", "endpoint_plugin", "torchserve", "openai_server", "triton", "bentoml", "models"),
        *("firewall", "gateway", "dragonfly_manager", "monitoring", "offline_bundle"),
    }
    for play in plays:
        imported = play.get("ansible.builtin.import_playbook")
        assert play.get("tags") or imported in ("_begin.yml", "_preflight.yml", "_unlocked.yml", "_report.yml"), play["name"]
    for name in ("_begin.yml", "_preflight.yml", "_reach.yml", "_unlocked.yml", "_report.yml"):
        for play in load(COLLECTION / "playbooks" / name):
            assert play.get("tags") == ["always"] or "ansible.builtin.import_playbook" in play, play["name"]
