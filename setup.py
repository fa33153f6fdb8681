"""What pyproject.toml cannot say: `pipelines/` and `conf/` of the repository are installed inside the package.

A wheel so brings one name, `cpt_ray`, to an environment. In a checkout `python -m pipelines.<name>` runs the same files
under their own name, which is why they import one another relatively.
"""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["cpt_ray", "cpt_ray.*"]),
        "cpt_ray.pipelines",
        *(f"cpt_ray.pipelines.{name}" for name in find_packages("pipelines")),
        "cpt_ray.conf",
    ],
    package_dir={"cpt_ray.pipelines": "pipelines", "cpt_ray.conf": "conf"},
    package_data={"cpt_ray": ["**/*.html", "**/*.css", "**/*.j2", "**/*.js"], "cpt_ray.conf": ["**/*.yaml"]},
)
