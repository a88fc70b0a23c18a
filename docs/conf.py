# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sphinx's settings of the site. build.py has put the sources beside a copy of this file."""

project = "modelfleet.serving"
author = "ModelFleet developers"
copyright = f"2026, {author}"
html_title = "ModelFleet"

extensions = ["myst_parser", "sphinx.ext.intersphinx", "sphinx_antsibull_ext"]
# A table or a piece of output is no program.
highlight_language = "text"
# Messages and options are to be found as they are written.
smartquotes = False
# Links lead to headings by the names that hosts of repositories give them.
myst_heading_anchors = 4
# Whatever leads nowhere is an error, as the build treats warnings as such.
nitpicky = True
# References of antsibull-docs to Ansible's own pages. build.py writes the labels, so that nothing is fetched.
intersphinx_mapping = {"ansible_devel": ("https://docs.ansible.com/projects/ansible/devel/", "ansible_devel.inv")}

html_theme = "sphinx_rtd_theme"
html_theme_options = {"navigation_depth": 3}
html_extra_path = ["extra"]
html_copy_source = False
html_show_sphinx = False
