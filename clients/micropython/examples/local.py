# What is different on each board. Edit this.
MY_ID = "1"
SERVER = "192.168.0.41"
PORT = 9999
SSID = "my_ssid"
PW = "WiFi_password"
TIMEOUT = 3000  # ms; as the server's link.timeout_ms
DIALECT = "N"  # "H" for a server of micropython-iot
