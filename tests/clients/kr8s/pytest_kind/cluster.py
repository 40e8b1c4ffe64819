"""The cluster of a suite that expects kind: the one of $PODCTL_TEST_KUBECONFIG."""
import os
import pathlib
import subprocess


class KindCluster:
    def __init__(self, name, image=None, **_):
        self.name = name
        self.kubeconfig_path = pathlib.Path(os.environ["PODCTL_TEST_KUBECONFIG"])

    def create(self, config_file=None):
        pass

    def delete(self):
        pass

    def load_docker_image(self, image):
        pass

    def kubectl(self, *args, **kwargs):
        env = {**os.environ, "KUBECONFIG": str(self.kubeconfig_path)}
        return subprocess.check_output(["kubectl", *args], env=env, encoding="utf-8", **kwargs)
