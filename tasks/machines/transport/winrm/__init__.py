"""WinRM: WS-Management over HTTP and HTTPS, with pywinrm."""
