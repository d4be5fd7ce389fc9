// GuestDriver
