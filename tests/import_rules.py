"""The contract `only`: what the modules of a package may import. `lint-imports` reads the rules from pyproject.toml."""

import sys

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class Only(Contract):
    """A package imports itself, the standard library, and what is named; imports inside functions count.

    Options:
        source_modules: packages, each with all that is in it.
        may_import: packages and modules that may be imported, each with all that is in it.
        of: only imports of these packages are looked at (default: of all).
        except_modules: modules of the sources that have a rule of their own.
    """

    type_name = "only"

    source_modules = fields.SetField(subfield=fields.StringField())
    may_import = fields.SetField(subfield=fields.StringField())
    of = fields.SetField(subfield=fields.StringField(), required=False)
    except_modules = fields.SetField(subfield=fields.StringField(), required=False)

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002
        """Find the imports that no entry allows.

        Raises:
            ValueError: a source or an excepted module does not exist: the rule would hold nothing.
        """
        broken = []
        if missing := {*self.source_modules, *(self.except_modules or ())} - graph.modules:
            raise ValueError(f"{sorted(missing)} of the rule {self.name!r} do not exist.")
        for module in sorted(graph.modules):
            if not within(module, self.source_modules) or within(module, self.except_modules or ()):
                continue
            for name in sorted(graph.find_modules_directly_imported_by(module)):
                allowed = name.split(".")[0] in sys.stdlib_module_names or within(name, self.may_import)
                looked_at = not self.of or within(name, self.of)
                if looked_at and not allowed and not within(name, self.source_modules):
                    lines = [
                        detail["line_number"] for detail in graph.get_import_details(importer=module, imported=name)
                    ]
                    broken.append((module, name, lines))
        return ContractCheck(kept=not broken, metadata={"broken": broken})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Name each such import."""
        for module, name, lines in check.metadata["broken"]:
            output.print_error(f"{module} imports {name} (line {', '.join(map(str, lines))}), which no entry allows.")


def within(name: str, packages: set[str] | tuple[str, ...]) -> bool:
    """Whether a module is one of these packages, or in one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)
