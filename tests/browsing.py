"""What tests of pages in a browser share."""


def wait(browser, condition, what):
    """Until the page is as it shall be: on a busy machine its scripts run late."""
    from selenium.webdriver.support.ui import WebDriverWait
    WebDriverWait(browser, 120).until(condition, what)
